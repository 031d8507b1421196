/**
 * The conformance suite on the kernel's real kvm-amd: every case, in CI with its loops cut short (see kick.ts), with
 * `./test --long` at full length.
 */

import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { join } from "node:path";
import { Readable, Writable } from "node:stream";
import { test } from "node:test";
import { connectLab, labUnavailable } from "./lab.ts";

const CONFORMANCE = join(import.meta.dirname, "../packages/kvm/conformance");

const skip = labUnavailable() ?? false;
/** A calm machine needs a minute or two. The runner gives a file ten; the suite ends a case that hangs after three. */
const timeoutMs = process.env.LODGE_LONG === "1" ? 60 * 60_000 : 8 * 60_000;

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
  const status = await connectLab(command, { stdin: Readable.from([]), stdout, stderr }, { timeoutMs }).catch(
    (error) => {
      const last = stdout.text.split("\n").findLast((line) => line.startsWith("# Subtest: "));
      throw new Error(`${error.message}\nlast begun: ${last}\n${stderr.text}`, { cause: error });
    },
  );
  const lines = stdout.text.split("\n");
  const count = (what: string) => Number(lines.findLast((line) => line.startsWith(`# ${what} `))?.split(" ")[2]);
  for (const line of lines) {
    const [, skipped] = /^ok \d+ - (.* # SKIP .*)$/.exec(line) ?? [];
    if (skipped !== undefined) t.diagnostic(skipped);
  }
  assert.equal(count("fail"), 0, `in the lab:\n${stdout.text}\n${stderr.text}`);
  assert.equal(status, 0, stderr.text);
  assert.equal(count("pass") + count("skipped"), count("tests"));
  // Of the 223 there were when this was written, 214.
  assert.ok(count("pass") >= 200, `only ${count("pass")} cases passed`);
});
