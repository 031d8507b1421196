/** A host that has no space for a while: what is refused then and asked for again later is there, and the image is whole. */

import assert from "node:assert/strict";
import { test } from "node:test";
import { JournalStore } from "../../testing/journal-store.ts";
import { Random, runSeed } from "../../testing/random.ts";
import { isNoSpace, StorageError } from "../errors.ts";
import { checkQcow2 } from "./check/check.ts";
import { type CreateQcow2Options, createQcow2 } from "./create.ts";
import { openQcow2 } from "./open.ts";

const SEED = runSeed();
const LIVES = 3;
const STEPS = 60;
const MOST_REFUSED = 300;

const SHAPES: Record<string, Partial<CreateQcow2Options>> = {
  "512 B clusters": { clusterSize: 512 },
  "4 KiB clusters": { clusterSize: 4096 },
  "1-bit refcounts": { clusterSize: 1024, refcountBits: 1 },
  "extended L2 entries": { clusterSize: 16384, extendedL2: true },
  "lazy refcounts": { clusterSize: 1024, lazyRefcounts: true },
  "version 2": { clusterSize: 2048, version: 2 },
};

/** Refuses writes now and then, having done a part of them. */
class FullStore extends JournalStore {
  random: Random | undefined;
  refused = 0;

  override async write(offset: number, pieces: readonly Uint8Array[]): Promise<void> {
    // A request of many writes is asked for again from its beginning, and would not come through for ever.
    const isFull = this.refused < MOST_REFUSED && this.random?.chance(0.1);
    if (this.random === undefined || !isFull) return await super.write(offset, pieces);
    this.refused += 1;
    const bytes = Buffer.concat(pieces);
    const done = this.random.below(bytes.length / 512 + 1) * 512;
    if (done > 0) await super.write(offset, [bytes.subarray(0, done)]);
    const cause = Object.assign(new Error("no space left on device"), { code: "ENOSPC" });
    throw new StorageError("STORAGE_IO", `${this.name}: write failed: ${cause.message}`, { cause });
  }
}

for (const [name, shape] of Object.entries(SHAPES)) {
  test(`no space for a while: ${name}`, async () => {
    let refused = 0;
    for (let life = 0; life < LIVES; life++) {
      const random = new Random(SEED + life);
      try {
        refused += await live(random, shape);
      } catch (cause) {
        throw new Error(`with SEED=${random.seed}: ${(cause as Error).message}`, { cause });
      }
    }
    assert.ok(refused > LIVES);
  });
}

async function live(random: Random, shape: Partial<CreateQcow2Options>): Promise<number> {
  const store = new FullStore();
  const model = Buffer.alloc(512 * (128 + random.below(900)));
  await createQcow2(store, { sizeBytes: model.length, ...shape });
  const image = await openQcow2(store, { l2Bytes: 0, refcountBytes: 0 });
  store.random = random;
  const sectors = model.length / 512;
  /** As a machine that is paused until there is space: the same again. */
  const until = async (request: () => Promise<void>) => {
    for (;;) {
      try {
        return await request();
      } catch (cause) {
        assert.ok(isNoSpace(cause), (cause as Error).stack);
      }
    }
  };
  for (let step = 0; step < STEPS; step++) {
    // Two side by side, each in its half.
    const half = Math.floor(sectors / 2);
    const requests = [0, half].map(async (start) => {
      const first = start + random.below(half);
      const count = 1 + random.below(Math.min(start + half - first, random.chance(0.2) ? half : 40));
      const value = random.chance(0.2) ? 0 : 1 + random.below(255);
      const [offset, length] = [first * 512, count * 512];
      const mayUnmap = random.chance(0.5);
      if (value === 0) await until(() => image.writeZeroes(offset, length, mayUnmap));
      else await until(() => image.write(offset, [Buffer.alloc(length, value)]));
      model.fill(value, offset, offset + length);
    });
    await Promise.all(requests);
    if (random.chance(0.2)) await until(() => image.flush());
    const now = Buffer.alloc(model.length);
    await image.read(0, [now]);
    assert.ok(now.equals(model), `step ${step}`);
  }
  store.random = undefined;
  await image.close();
  const { corruptions, leaks, messages } = await checkQcow2(store);
  assert.deepEqual([corruptions, leaks], [0, 0], messages.join("; "));
  const again = await openQcow2(store);
  const now = Buffer.alloc(model.length);
  await again.read(0, [now]);
  assert.ok(now.equals(model), "after it was opened again");
  return store.refused;
}
