/** The conformance suite on the kernel's real kvm-amd. Only `./test --long` does. */

import assert from "node:assert/strict";
import { test } from "node:test";
import { labUnavailable, runInLab } from "./lab.ts";

const SUITE = "packages/kvm/conformance/conformance.test.ts";

const long = process.env.LODGE_LONG === "1";

test("kvm-amd passes the conformance suite", {
  skip: long
    ? (labUnavailable() ?? false)
    : "takes many minutes there, and cases with several threads may hang: --long",
}, async (t) => {
  const command = [process.execPath, "--test-reporter=tap", SUITE];
  const { stdout, stderr, status } = await runInLab(command, { timeoutMs: 30 * 60_000 });
  const count = (name: string) => Number(/^# NAME (\d+)$/m.exec(stdout.replaceAll(`# ${name} `, "# NAME "))?.[1]);
  const failures = stdout.split("\n").filter((line) => /^not ok /.test(line));
  assert.deepEqual(failures, [], `in the lab:\n${stdout}\n${stderr}`);
  assert.equal(status, 0, stderr);
  assert.ok(count("pass") >= 200, `only ${count("pass")} cases passed`);
  for (const [, reason] of stdout.matchAll(/^ok .* # SKIP (.*)$/gm)) t.diagnostic(`skipped there: ${reason}`);
});
