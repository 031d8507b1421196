/**
 * The conformance suite on the kernel's real kvm-amd: in CI with its loops cut short (see kick.ts) and as many cases as there
 * is time for, which is all of them unless the machine is busy; with `./test --long` all, at full length.
 */

import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { join } from "node:path";
import { Readable, Writable } from "node:stream";
import { test } from "node:test";
import { connectLab, labUnavailable } from "./lab.ts";

const CONFORMANCE = join(import.meta.dirname, "../packages/kvm/conformance");

const skip = (await labUnavailable()) ?? false;
const long = process.env.LODGE_LONG === "1";
/**
 * The runner gives a file ten minutes, two hours with --long. A calm machine needs one or two for all cases; on a busy one the
 * suite begins no further case after some minutes, so that there is time for the start and the last case.
 */
const timeoutMs = long ? 110 * 60_000 : 9 * 60_000;
const budgetS = Number(process.env.LODGE_CONFORMANCE_S ?? 300);
/** Fewer say nothing of kvm-amd. */
const leastPassed = long ? 200 : 40;

/** What the suite said, also when the lab had to be ended. */
class Said extends Writable {
  text = "";
  override _write(chunk: Buffer, _encoding: BufferEncoding, done: () => void): void {
    this.text += chunk;
    done();
  }
}

test("kvm-amd passes the conformance suite", { skip }, async (t) => {
  // What a lab assembles is gone with it.
  execFileSync(process.execPath, [join(CONFORMANCE, "assemble.ts")], { stdio: ["ignore", "ignore", "inherit"] });
  const command = [process.execPath, "--test-reporter=tap", join(CONFORMANCE, "conformance.test.ts")];
  const [stdout, stderr] = [new Said(), new Said()];
  const env = long ? {} : { LODGE_CONFORMANCE_S: String(budgetS) };
  const streams = { stdin: Readable.from([]), stdout, stderr };
  const status = await connectLab(command, streams, { timeoutMs, env }).catch((error) => {
    const last = stdout.text.split("\n").findLast((line) => line.startsWith("# Subtest: "));
    throw new Error(`${error.message}\nlast begun: ${last}\n${stderr.text}`, { cause: error });
  });
  const lines = stdout.text.split("\n");
  const count = (what: string) => Number(lines.findLast((line) => line.startsWith(`# ${what} `))?.split(" ")[2]);
  for (const line of lines) {
    const [, skipped] = /^ok \d+ - (.* # SKIP .*)$/.exec(line) ?? [];
    if (skipped !== undefined && !skipped.includes("not begun within")) t.diagnostic(skipped);
  }
  const late = lines.filter((line) => line.includes(" # SKIP not begun within")).length;
  if (late > 0) t.diagnostic(`${late} cases were not begun within ${budgetS} s`);
  assert.equal(count("fail"), 0, `in the lab:\n${stdout.text}\n${stderr.text}`);
  assert.equal(status, 0, stderr.text);
  assert.equal(count("pass") + count("skipped"), count("tests"));
  assert.ok(count("pass") >= leastPassed, `only ${count("pass")} cases passed`);
});
