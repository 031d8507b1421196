/** Taking over what is below, while the same clusters are written: what was written stays. */

import assert from "node:assert/strict";
import { test } from "node:test";
import { HeldStore } from "../../testing/held-store.ts";
import { JournalStore } from "../../testing/journal-store.ts";
import { MemoryStore } from "../../testing/memory-store.ts";
import { RawImage } from "../raw/raw-image.ts";
import { createQcow2 } from "./create.ts";
import { openQcow2 } from "./open.ts";

const CLUSTER = 4096;

for (const extendedL2 of [false, true]) {
  test(`a write during a pull of the same clusters${extendedL2 ? ", with subclusters" : ""}`, async () => {
    const clusterSize = extendedL2 ? 16384 : CLUSTER;
    const sizeBytes = 8 * clusterSize;
    const below = new HeldStore(MemoryStore.of(Buffer.alloc(sizeBytes, 1)));
    const store = new JournalStore();
    await createQcow2(store, { sizeBytes, clusterSize, extendedL2, backing: { name: "below", format: "raw" } });
    const image = await openQcow2(store, { openBacking: async () => new RawImage(below) });
    const expected = Buffer.alloc(sizeBytes, 1);
    const write = (offset: number, length: number, value: number) => {
      expected.fill(value, offset, offset + length);
      return image.write(offset, [Buffer.alloc(length, value)]);
    };
    await write(5 * clusterSize, 512, 2);
    below.hold();
    const pulled = image.pull(0, sizeBytes, true);
    await below.asked;
    const works = [
      write(512, 512, 3),
      write(clusterSize, clusterSize, 5),
      write(3 * clusterSize - 512, 1024, 4),
      image.writeZeroes(6 * clusterSize, clusterSize, true),
    ];
    expected.fill(0, 6 * clusterSize, 7 * clusterSize);
    // As far as they come without what is held.
    for (let turn = 0; turn < 50; turn++) await new Promise(setImmediate);
    below.release();
    await Promise.all([pulled, ...works]);
    image.backing = undefined;
    const now = Buffer.alloc(sizeBytes);
    await image.read(0, [now]);
    const wrong = now.findIndex((byte, at) => byte !== expected[at]);
    assert.equal(wrong, -1, `byte ${wrong} is ${now[wrong]} instead of ${expected[wrong]}`);
    await image.close();
  });
}

test("zeros below are taken over as such, or left", async () => {
  for (const zeros of [true, false]) {
    const sizeBytes = 16 * CLUSTER;
    const below = new MemoryStore(sizeBytes);
    await below.write(2 * CLUSTER, [Buffer.alloc(CLUSTER, 1)]);
    const store = new JournalStore();
    await createQcow2(store, { sizeBytes, clusterSize: CLUSTER, backing: { name: "below", format: "raw" } });
    const image = await openQcow2(store, { openBacking: async () => new RawImage(below) });
    await image.pull(0, sizeBytes, zeros);
    const { present, depth, zero } = await image.status(8 * CLUSTER, CLUSTER);
    assert.deepEqual([present && depth === 0, zero], [zeros, true]);
    const { present: has, depth: from, data } = await image.status(2 * CLUSTER, CLUSTER);
    assert.deepEqual([has, from, data], [true, 0, true]);
    await image.close();
    // Zeros took no space.
    assert.ok(store.sizeBytes < 10 * CLUSTER);
  }
});
