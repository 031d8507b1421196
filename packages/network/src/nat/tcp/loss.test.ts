/** Transfers over a cable that loses, doubles and reorders frames: all of them arrive whole. Linux's TCP is the guest's. */

import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { once } from "node:events";
import { type AddressInfo, createServer } from "node:net";
import { join } from "node:path";
import { before, suite, test } from "node:test";
import { KernelGuest } from "../../../testing/kernel-guest.ts";
import { enterOwnNetwork, noNetworks } from "../../../testing/namespaces.ts";
import type { Quality } from "../../../testing/wire.ts";
import { Nat } from "../nat.ts";

const CLIENT = join(import.meta.dirname, "../../../testing/client.ts");
const MIB = 1 << 20;
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
      const data = Buffer.alloc(TRANSFER_MIB * MIB, "what arrives is what was sent, in its order ");
      const sha256 = createHash("sha256").update(data).digest("hex");
      const received: string[] = [];
      const server = createServer({ allowHalfOpen: true }, (socket) => {
        const hash = createHash("sha256");
        socket.on("data", (part: Buffer) => hash.update(part));
        socket.once("end", () => received.push(hash.digest("hex")));
        socket.end(data);
      });
      server.listen(0, "127.0.0.1");
      await once(server, "listening");
      const { port } = server.address() as AddressInfo;
      const run = async (job: string, number: number) =>
        JSON.parse(await guest.host.do(process.execPath, CLIENT, job, "10.0.2.2", String(port), String(number)));
      const [down] = await Promise.all([
        run("download", TRANSFERS),
        ...Array.from({ length: 4 }, () => run("upload", TRANSFER_MIB)),
      ]);
      assert.deepEqual(
        down.map((one: { bytes: number; sha256: string }) => [one.bytes, one.sha256]),
        Array(TRANSFERS).fill([data.length, sha256]),
      );
      const block = Buffer.alloc(MIB, "u");
      const hash = createHash("sha256");
      for (let sent = 0; sent < TRANSFER_MIB; sent++) hash.update(block);
      const uploaded = hash.digest("hex");
      assert.equal(received.filter((one) => one === uploaded).length, 4);
      if (quality.loss > 0) assert.ok(guest.wire.lost > 0);
      server.close();
      await once(server, "close");
    });
  }
});
