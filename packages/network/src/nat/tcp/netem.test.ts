/**
 * Transfers over a cable that Linux's own `tc netem` spoils, in both directions, with Linux's TCP as the guest's. Kernels of small
 * hosts have no netem; lab/netem.test.ts runs this file on Debian's.
 */

import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { before, suite, test } from "node:test";
import { KernelGuest } from "../../../testing/kernel-guest.ts";
import { enterOwnNetwork, type Host, lacks } from "../../../testing/namespaces.ts";
import { transferWhole } from "../../../testing/transfers.ts";
import { Nat } from "../nat.ts";

/** The lab carries some hundred frames a second; ./test --long loss.test.ts has 200 of 10 MiB over a cable of the test's own. */
const [TRANSFERS, TRANSFER_KIB] = process.env.LODGE_LONG ? [200, 256] : [4, 128];

/** netem's words, and whether frames of 64 KiB go over it whole. */
const WIRES: [string, boolean][] = [
  ["loss 2%", false],
  ["loss 5%", true],
  ["delay 2ms 1ms loss 2% duplicate 2% reorder 25% 50%", false],
];

/** A queueing discipline that the kernel has not is refused with "Specified qdisc kind is unknown". */
const noNetem =
  lacks("tc") ||
  (spawnSync("unshare", ["-n", "tc", "qdisc", "add", "dev", "lo", "root", "netem", "loss", "1%"]).status !== 0 &&
    "this kernel has no netem");

/** What the guest sends passes its device's queue; what it gets is led by way of a second device with such a queue. */
async function spoil(host: Host, words: string): Promise<void> {
  const script = `
    ip link add ifb0 type ifb && ip link set ifb0 up
    tc qdisc add dev eth0 root netem limit 10000 ${words}
    tc qdisc add dev ifb0 root netem limit 10000 ${words}
    tc qdisc add dev eth0 ingress
    tc filter add dev eth0 parent ffff: matchall action mirred egress redirect dev ifb0`;
  await host.do("sh", "-ec", script);
}

/** What netem let through and dropped, of both directions. */
async function counts(host: Host): Promise<{ packets: number; drops: number }[]> {
  const devices = ["eth0", "ifb0"].map(async (device) => {
    const [root] = JSON.parse(await host.do("tc", "-s", "-j", "qdisc", "show", "dev", device, "root"));
    assert.equal(root.kind, "netem");
    return root;
  });
  return Promise.all(devices);
}

suite("TCP over a cable with netem", { skip: noNetem }, () => {
  before(() => enterOwnNetwork());
  for (const [words, offloads] of WIRES) {
    const frames = offloads ? "frames of 64 KiB" : "frames";
    test(`${TRANSFERS} transfers of ${TRANSFER_KIB} KiB each way, ${frames}: ${words}`, async () => {
      using nat = new Nat({ loopback: true });
      await using guest = await KernelGuest.make(nat, { offloads });
      await guest.configure();
      await spoil(guest.host, words);
      await transferWhole(guest.host, TRANSFERS, TRANSFER_KIB);
      const both = await counts(guest.host);
      assert.ok(both.every(({ packets }) => packets > 0));
      // Of few frames of 64 KiB one direction may lose none.
      if (words.includes("loss")) assert.ok(both.some(({ drops }) => drops > 0));
    });
  }
});
