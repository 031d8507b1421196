/** The conformance suite on the kernel's real kvm-amd. All of it takes minutes there: `./test --long`. */

import assert from "node:assert/strict";
import { test } from "node:test";
import { labUnavailable, runInLab } from "./lab.ts";

const SUITE = "packages/kvm/conformance/conformance.test.ts";

/** What every run checks: a part of each kind, in about a minute. */
const BOUNDED = "^kvm: (pio|modes|stops|exceptions|registers|messages|state):";

const long = process.env.LODGE_LONG === "1";
const patterns = long ? [] : [`--test-name-pattern=${BOUNDED}`];

test(`kvm-amd passes ${long ? "the conformance suite" : "its part of the conformance suite"}`, {
  skip: labUnavailable() ?? false,
}, async (t) => {
  const command = [process.execPath, "--test-reporter=tap", ...patterns, SUITE];
  const { stdout, stderr, status } = await runInLab(command, { timeoutMs: 30 * 60_000 });
  const count = (name: string) => Number(/^# NAME (\d+)$/m.exec(stdout.replaceAll(`# ${name} `, "# NAME "))?.[1]);
  const failures = stdout.split("\n").filter((line) => /^not ok /.test(line));
  assert.deepEqual(failures, [], `in the lab:\n${stdout}\n${stderr}`);
  assert.equal(status, 0, stderr);
  assert.ok(count("pass") >= (long ? 200 : 50), `only ${count("pass")} cases passed`);
  for (const [, reason] of stdout.matchAll(/^ok .* # SKIP (.*)$/gm)) t.diagnostic(`skipped there: ${reason}`);
});
