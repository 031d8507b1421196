/**
 * Runs every test file of the tree in a process of its own, two at a time, and closes with one line of counts.
 *
 *     ./test                     what CI runs: slow suites in bounded form
 *     ./test --long              slow suites at full length
 *     ./test --timeout SECONDS   how long one file may take (default 600, with --long 7200)
 *     ./test FILE...             those files only
 *
 * A file that fails, ends before its tests do or takes too long is shown with all its output, others with one line.
 */

import { spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync, globSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout } from "node:timers/promises";
import { parseArgs } from "node:util";
import type { Counts } from "./counts.ts";

const CONCURRENCY = 2;

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: { long: { type: "boolean", default: false }, timeout: { type: "string" } },
});
if (values.long) process.env.LODGE_LONG = "1";
const timeoutS = Number(values.timeout ?? (values.long ? 7200 : 600));
if (!(timeoutS > 0)) throw new RangeError(`--timeout ${values.timeout}: seconds above 0`);

const everything = "{packages,tools,lab,bench,examples}/**/*.test.ts";
const files =
  positionals.length > 0 ? positionals : globSync(everything, { exclude: ["**/node_modules/**", "**/dist/**"] }).sort();

/** Each file leads a process group, so that nothing it started outlives it. */
const groups = new Set<number>();

function killGroup(leader: number): void {
  groups.delete(leader);
  try {
    process.kill(-leader, "SIGKILL");
  } catch {
    // Nobody is left in it.
  }
}

for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"] as const) {
  process.on(signal, () => {
    for (const leader of groups) killGroup(leader);
    process.exit(1);
  });
}

interface Outcome extends Counts {
  output: string;
  /** Set when the file as a whole went wrong, whatever its tests say. */
  fault: string | undefined;
}

async function runFile(file: string, counts: string): Promise<Outcome> {
  const reporters = ["spec", "stdout", join(import.meta.dirname, "counts.ts"), counts];
  const flags = reporters.map((value, index) => `--test-reporter${index % 2 === 0 ? "" : "-destination"}=${value}`);
  // Set when a test of ours runs this runner; the files below would report to that test's runner instead of to us.
  const { NODE_TEST_CONTEXT: _, ...env } = process.env;
  const child = spawn(process.execPath, [...flags, file], { detached: true, stdio: ["ignore", "pipe", "pipe"], env });
  groups.add(child.pid!);
  let output = "";
  for (const stream of [child.stdout, child.stderr]) {
    stream.setEncoding("utf8").on("data", (text: string) => {
      output += text;
    });
  }
  const ended = Promise.withResolvers<string | undefined>();
  const closed = once(child, "close");
  const abort = new AbortController();
  setTimeout(timeoutS * 1000, undefined, { signal: abort.signal }).then(
    () => {
      ended.resolve(`took longer than ${timeoutS} s and was killed (--timeout SECONDS gives it more)`);
      killGroup(child.pid!);
    },
    () => {},
  );
  child.on("exit", (code, signal) => {
    abort.abort();
    ended.resolve(code === 0 ? undefined : code === null ? `was ended by ${signal}` : `exited with ${code}`);
    killGroup(child.pid!);
  });
  const fault = await ended.promise;
  // Whoever left the group may hold the output open for ever; what is written by now is enough.
  await Promise.race([closed, setTimeout(2000, undefined, { ref: false })]);

  const text = existsSync(counts) ? readFileSync(counts, "utf8") : "";
  if (text === "") {
    return {
      passed: 0,
      failed: 0,
      skipped: [],
      output,
      fault: fault ?? "has no tests, or one of them ended the process",
    };
  }
  const found: Counts = JSON.parse(text);
  // A file with failing tests exits with 1; that is no fault of its own.
  if (found.failed > 0 && fault === "exited with 1") return { ...found, output, fault: undefined };
  const ran = found.passed + found.failed + found.skipped.length;
  return { ...found, output, fault: fault ?? (ran === 0 ? "has no test in it" : undefined) };
}

const folder = mkdtempSync(join(tmpdir(), "lodge-test-"));
process.on("exit", () => rmSync(folder, { recursive: true, force: true }));

const total = { passed: 0, failed: 0, skipped: 0 };
const reasons = new Map<string, number>();

function report(file: string, { passed, failed, skipped, output, fault }: Outcome, tookMs: number): void {
  total.passed += passed;
  total.failed += failed + (fault === undefined ? 0 : 1);
  total.skipped += skipped.length;
  for (const reason of skipped) reasons.set(reason, (reasons.get(reason) ?? 0) + 1);
  const good = failed === 0 && fault === undefined;
  if (!good) process.stdout.write(output);
  const skips = skipped.length > 0 ? `, ${skipped.length} skipped` : "";
  const failures = failed > 0 ? `, ${failed} failed` : "";
  const counts = `${passed} passed${failures}${skips}, ${(tookMs / 1000).toFixed(1)} s`;
  console.log(`${good ? "✔" : "✖"} ${file} (${counts})${fault === undefined ? "" : `: ${fault}`}`);
}

const waiting = [...files.entries()];
async function work(): Promise<void> {
  for (let next = waiting.shift(); next !== undefined; next = waiting.shift()) {
    const [index, file] = next;
    const start = performance.now();
    report(file, await runFile(file, join(folder, String(index))), performance.now() - start);
  }
}
await Promise.all(Array.from({ length: CONCURRENCY }, work));

for (const [reason, count] of reasons) console.log(`skipped ${count}: ${reason}`);
if (files.length === 0) console.log("no test file was found");
console.log(`${total.passed} passed, ${total.failed} failed, ${total.skipped} skipped`);
process.exitCode = total.failed > 0 || files.length === 0 ? 1 : 0;
