/** The NAT's TCP against `tc netem` of Debian's kernel, which the lab has and many hosts have not. */

import assert from "node:assert/strict";
import { join } from "node:path";
import { test } from "node:test";
import { labUnavailable, runInLab } from "./lab.ts";

const root = join(import.meta.dirname, "..");
/** The runner gives a file ten minutes, and two hours with --long. */
const timeoutMs = (process.env.LODGE_LONG ? 110 : 9) * 60_000;

test("transfers arrive whole over netem's loss, reordering, duplication and delay", {
  skip: (await labUnavailable()) ?? false,
}, async (t) => {
  const script = `
    for module in tun sch_netem ifb sch_ingress cls_matchall act_mirred; do modprobe $module; done
    "$NODE" --test --test-reporter=tap packages/network/src/nat/tcp/netem.test.ts`;
  const { stdout, stderr, status } = await runInLab(["sh", "-ec", script], { cwd: root, timeoutMs });
  t.diagnostic(stdout);
  assert.equal(status, 0, stdout + stderr);
  assert.match(stdout, /^# pass 3$/m, stdout);
  assert.match(stdout, /^# skipped 0$/m, stdout);
});
