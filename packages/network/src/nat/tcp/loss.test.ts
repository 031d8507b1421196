/** Transfers over a cable that loses, doubles and reorders frames: all of them arrive whole. Linux's TCP is the guest's. */

import assert from "node:assert/strict";
import { before, suite, test } from "node:test";
import { KernelGuest } from "../../../testing/kernel-guest.ts";
import { enterOwnNetwork, noNetworks } from "../../../testing/namespaces.ts";
import { transferWhole } from "../../../testing/transfers.ts";
import type { Quality } from "../../../testing/wire.ts";
import { Nat } from "../nat.ts";

const [TRANSFERS, TRANSFER_MIB] = process.env.LODGE_LONG ? [200, 10] : [20, 1];

const WIRES: [string, Omit<Quality, "seed">, boolean][] = [
  ["2 % loss", { loss: 0.02, duplication: 0, reordering: 0, delayMs: 0 }, false],
  ["2 % loss of frames of 64 KiB", { loss: 0.02, duplication: 0, reordering: 0, delayMs: 0 }, true],
  ["reordered and doubled frames", { loss: 0, duplication: 0.02, reordering: 0.02, delayMs: 0 }, false],
  ["all of it, and 2 ms of delay", { loss: 0.02, duplication: 0.01, reordering: 0.01, delayMs: 2 }, false],
];

suite("TCP over a bad cable", { skip: noNetworks }, () => {
  before(() => enterOwnNetwork());
  for (const [what, quality, offloads] of WIRES) {
    test(`${TRANSFERS} transfers of ${TRANSFER_MIB} MiB each way over ${what}`, async () => {
      using nat = new Nat({ loopback: true });
      await using guest = await KernelGuest.make(nat, { offloads, quality: { ...quality, loss: 0, seed: 7 } });
      await guest.configure();
      guest.wire.quality = { ...quality, seed: 7 };
      await transferWhole(guest.host, TRANSFERS, TRANSFER_MIB * 1024);
      if (quality.loss > 0) assert.ok(guest.wire.lost > 0);
    });
  }
});
