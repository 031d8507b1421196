/** An image is cut off at every kind of moment: it stays whole but for lost space, and what was flushed is there. */

import assert from "node:assert/strict";
import { mkdtempDisposableSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { JournalStore } from "../../testing/journal-store.ts";
import { qemuCheck, qemuMissing } from "../../testing/qemu.ts";
import { Random, runSeed } from "../../testing/random.ts";
import { checkQcow2 } from "./check/check.ts";
import { type CreateQcow2Options, createQcow2 } from "./create.ts";
import { Incompatible } from "./layout.ts";
import { openQcow2 } from "./open.ts";
import type { Qcow2Image } from "./qcow2-image.ts";
import { setBacking } from "./resize.ts";
import { createSnapshot, deleteSnapshot } from "./snapshots.ts";
import { readHeader } from "./stored.ts";

const SEED = runSeed();
const LIVES = 2;
const STEPS = 40;
const CUTS = 80;
const QEMU_EVERY = 40;

const SHAPES: Record<string, Partial<CreateQcow2Options>> = {
  "512 B clusters": { clusterSize: 512 },
  "4 KiB clusters": { clusterSize: 4096 },
  "1-bit refcounts": { clusterSize: 1024, refcountBits: 1 },
  "64-bit refcounts": { clusterSize: 512, refcountBits: 64 },
  "extended L2 entries": { clusterSize: 16384, extendedL2: true },
  "lazy refcounts": { clusterSize: 1024, lazyRefcounts: true },
  "version 2": { clusterSize: 2048, version: 2 },
};

for (const [name, shape] of Object.entries(SHAPES)) {
  test(`power cuts: ${name}`, async () => {
    for (let life = 0; life < LIVES; life++) {
      const random = new Random(SEED + life);
      try {
        await live(random, shape);
      } catch (cause) {
        throw new Error(`with SEED=${random.seed}: ${(cause as Error).message}`, { cause });
      }
    }
  });
}

for (const [name, shape] of Object.entries(SHAPES)) {
  test(`a power cut while an image grows above a longer backing image shows none of that: ${name}`, async () => {
    const random = new Random(SEED);
    const clusterSize = shape.clusterSize!;
    const [old, grown] = [3 * clusterSize + 512, 700 * clusterSize];
    const below = new JournalStore();
    await createQcow2(below, { sizeBytes: grown, clusterSize });
    const backing = await openQcow2(below);
    await backing.write(0, [new Uint8Array(grown).fill(7)]);
    const store = new JournalStore();
    await createQcow2(store, { sizeBytes: old, ...shape, backing: { name: "below", format: "qcow2" } });
    const openBacking = async () => backing;
    const image = await openQcow2(store, { openBacking });
    await image.flush();
    const before = store.journal.length;
    await image.resize(grown);
    const sizes = new Set<number>();
    for (let steps = before; steps <= store.journal.length; steps++) {
      for (const left of [store.killedAfter(steps), store.cutAfter(steps, random)]) {
        const found = await openQcow2(left, { openBacking });
        sizes.add(found.sizeBytes);
        const content = [...(await contentOf(found))].map(([value]) => value);
        const expected = content.map((_, sector) => (sector < old / 512 ? 7 : 0));
        assert.deepEqual(content, expected, `after ${steps} of ${store.journal.length} steps, SEED=${SEED}`);
      }
    }
    assert.deepEqual(
      [...sizes].sort((a, b) => a - b),
      [old, grown],
    );
  });
}

/** What each sector may hold, from some step of the journal on. */
interface Mark {
  step: number;
  sectors: ReadonlySet<number>[];
}

async function live(random: Random, shape: Partial<CreateQcow2Options>): Promise<void> {
  const store = new JournalStore();
  const sectors = 128 + random.below(900);
  await createQcow2(store, { sizeBytes: sectors * 512, ...shape });
  const image = await openQcow2(store, { l2Bytes: 0, refcountBytes: 0 });
  // One byte stands for a sector: what it must hold, or may hold since the last flush that has ended.
  let may: Set<number>[] = Array.from({ length: sectors }, () => new Set([0]));
  const marks: Mark[] = [{ step: store.journal.length, sectors: copy(may) }];
  const born = store.journal.length;
  const kept: string[] = [];
  for (let step = 0; step < STEPS; step++) {
    const first = random.below(sectors);
    const count = 1 + random.below(Math.min(sectors - first, random.chance(0.2) ? sectors : 40));
    const change = (value: number) => {
      for (let at = first; at < first + count; at++) may[at]!.add(value);
      marks.push({ step: store.journal.length, sectors: copy(may) });
    };
    const lot = random.below(20);
    if (lot < 9) {
      const value = 1 + random.below(200);
      change(value);
      await image.write(first * 512, [new Uint8Array(count * 512).fill(value)]);
    } else if (lot < 12) {
      change(0);
      await image.writeZeroes(first * 512, count * 512, random.chance(0.5));
    } else if (lot < 14) {
      change(0);
      await image.discard(first * 512, count * 512);
    } else if (lot < 15) {
      await snapshot(image, kept, random);
    } else {
      await image.flush();
      // What it reads as now is what it must read as from here on.
      may = await contentOf(image);
      marks.push({ step: store.journal.length, sectors: copy(may) });
    }
  }
  await image.close();
  for (let cut = 0; cut < CUTS; cut++) {
    const at = born + random.below(store.journal.length - born + 1);
    const left = random.chance(0.3) ? store.killedAfter(at) : store.cutAfter(at, random);
    const mark = marks.findLast(({ step }) => step <= at)!;
    await expectWhole(left, mark.sectors, cut % QEMU_EVERY === 0, `after ${at} of ${store.journal.length} steps`);
  }
}

function copy(sectors: readonly Set<number>[]): Set<number>[] {
  return sectors.map((values) => new Set(values));
}

async function snapshot(image: Qcow2Image, kept: string[], random: Random): Promise<void> {
  if (kept.length > 0 && random.chance(0.5)) return deleteSnapshot(image, kept.pop()!);
  try {
    kept.push((await createSnapshot(image, "kept")).id);
  } catch (cause) {
    assert.match((cause as Error).message, /too narrow/);
  }
}

async function contentOf(image: Qcow2Image): Promise<Set<number>[]> {
  const bytes = new Uint8Array(image.sizeBytes);
  await image.read(0, [bytes]);
  return Array.from({ length: bytes.length / 512 }, (_, at) => {
    const sector = bytes.subarray(at * 512, at * 512 + 512);
    assert.ok(
      sector.every((byte) => byte === sector[0]),
      `sector ${at} is torn`,
    );
    return new Set([sector[0]!]);
  });
}

async function expectWhole(
  left: JournalStore,
  may: readonly ReadonlySet<number>[],
  qemu: boolean,
  when: string,
): Promise<void> {
  const header = await readHeader(left);
  const dirty = (header.incompatible & Incompatible.DIRTY) !== 0n;
  // Version 2 has no dirty bit, which tells others that marks and refcounts are to be mended after a snapshot was cut off.
  const mends = dirty || (header.version === 2 && (await checkQcow2(left)).corruptions > 0);
  const { corruptions, messages } = await checkQcow2(left, mends ? "all" : "none");
  assert.equal(corruptions, 0, `${when}: ${messages.join("; ")}`);
  if (qemu && qemuMissing === false) {
    using dir = mkdtempDisposableSync(join(tmpdir(), "lodge-cut-"));
    const path = join(dir.path, "image");
    writeFileSync(path, left.content());
    qemuCheck(path, true);
  }
  const image = await openQcow2(left);
  const now = await contentOf(image);
  for (const [at, values] of now.entries()) {
    const [value] = values;
    assert.ok(may[at]!.has(value!), `${when}: sector ${at} is ${value}, not one of ${[...may[at]!]}`);
  }
}

test("a power cut while an image gets another backing file leaves the one or the other", async () => {
  const random = new Random(SEED);
  const names = [{ name: "somewhere/two.qcow2", format: "qcow2" }, { name: "base.raw", format: "raw" }, undefined];
  for (const from of names) {
    for (const to of names) {
      const store = new JournalStore();
      await createQcow2(store, { sizeBytes: 1 << 20, ...(from && { backing: from }) });
      const image = await openQcow2(store);
      const before = store.journal.length;
      await setBacking(image, to);
      for (let cut = 0; cut < 50; cut++) {
        const left = store.cutAfter(before + random.below(store.journal.length - before + 1), random);
        const { backing } = await readHeader(left);
        assert.ok([from?.name, to?.name].includes(backing?.name), `it is ${backing?.name}, SEED=${SEED}`);
        assert.ok([from?.format, to?.format].includes(backing?.format), `it is ${backing?.format}, SEED=${SEED}`);
      }
    }
  }
});
