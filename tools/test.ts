/**
 * Runs every test of the tree in one run of node:test and closes with one line of counts.
 *
 *     ./test            what CI runs: slow suites in bounded form
 *     ./test --long     slow suites at full length
 *     ./test FILE...    those files only
 */

import { globSync } from "node:fs";
import { run } from "node:test";
import { spec } from "node:test/reporters";
import { parseArgs } from "node:util";

const { values, positionals } = parseArgs({ allowPositionals: true, options: { long: { type: "boolean" } } });
if (values.long) process.env.LODGE_LONG = "1";

const files =
  positionals.length > 0
    ? positionals
    : globSync("{packages,tools,lab,bench,examples}/**/*.test.ts", { exclude: ["**/node_modules/**", "**/dist/**"] });

const skips = new Map<string, number>();
let closing = "";
let failed = false;

const events = run({ files: files.sort(), concurrency: 2 });
events.on("test:pass", (test) => {
  if (test.skip === undefined || test.skip === false) return;
  const reason = typeof test.skip === "string" ? test.skip : "no reason given";
  skips.set(reason, (skips.get(reason) ?? 0) + 1);
});
events.on("test:summary", ({ counts, success, file }) => {
  if (file !== undefined) return;
  failed = !success;
  const bad = counts.tests - counts.passed - counts.skipped - counts.todo;
  closing = `${counts.passed} passed, ${bad} failed, ${counts.skipped} skipped`;
});
events.compose(new spec()).pipe(process.stdout);
events.on("end", () => {
  process.stdout.on("unpipe", () => {
    for (const [reason, count] of skips) console.log(`skipped ${count}: ${reason}`);
    console.log(closing);
    process.exitCode = failed ? 1 : 0;
  });
});
