/** Images with damaged headers, tables and refcounts: errors of ours and nothing else, in bounded time and memory. */

import assert from "node:assert/strict";
import { test } from "node:test";
import { JournalStore } from "../../testing/journal-store.ts";
import { Random, runSeed } from "../../testing/random.ts";
import { DiskBitmaps } from "../bitmaps/disk-bitmaps.ts";
import { StorageError } from "../errors.ts";
import { readBitmapDirectory } from "./bitmaps/directory.ts";
import { checkQcow2 } from "./check/check.ts";
import { type CreateQcow2Options, createQcow2 } from "./create.ts";
import { openQcow2 } from "./open.ts";
import type { Qcow2Image } from "./qcow2-image.ts";
import { applySnapshot, createSnapshot, deleteSnapshot, listSnapshots } from "./snapshots.ts";

/** The same cases every time, but for long runs. */
const SEED = process.env.LODGE_LONG || process.env.SEED ? runSeed() : 100_000;
const CASES = process.env.LODGE_LONG ? 100_000 : 20_000;
/** Every so many cases the image is also written, and every so many repaired. */
const WRITE_EVERY = 4;
const REPAIR_EVERY = 16;
const MOST_READ = 64 << 10;
/**
 * What a damaged image may cost its file, and this process. Where the refcounts say that all is in use, the next cluster
 * is counted in the next block: 128 MiB further on in the largest of these images, with a hole before it.
 */
const MOST_GROWTH = 300 << 20;
const MOST_MEMORY = 400 << 20;

const SHAPES: Partial<CreateQcow2Options>[] = [
  { clusterSize: 512 },
  { clusterSize: 512, version: 2 },
  { clusterSize: 1024, refcountBits: 4, lazyRefcounts: true },
  { clusterSize: 512, refcountBits: 64, compression: "zstd" },
  { clusterSize: 16384, extendedL2: true },
];

interface Base {
  bytes: Uint8Array;
  /** Where the image's own tables are: what is worth damaging. */
  tables: { start: number; length: number }[];
}

test(`${CASES} damaged images`, async () => {
  const bases = await Promise.all(SHAPES.map(makeBase));
  const before = process.memoryUsage.rss();
  for (let number = 0; number < CASES; number++) {
    const random = new Random(SEED + number);
    const base = bases[number % bases.length]!;
    const damaged = damage(base, random);
    try {
      await survive(damaged, random, number);
    } catch (cause) {
      throw new Error(`with SEED=${SEED + number} (case ${number % bases.length}): ${(cause as Error).message}`, {
        cause,
      });
    }
  }
  const growth = process.memoryUsage.rss() - before;
  assert.ok(growth < MOST_MEMORY, `the process grew by ${growth} bytes`);
});

async function makeBase(shape: Partial<CreateQcow2Options>): Promise<Base> {
  const store = new JournalStore();
  const clusterSize = shape.clusterSize!;
  await createQcow2(store, { sizeBytes: clusterSize * 96, ...shape });
  const image = await openQcow2(store);
  const some = (clusters: number, value: number) => [new Uint8Array(clusters * clusterSize).fill(value)];
  await image.write(0, some(8, 1));
  await image.write(70 * clusterSize, some(9, 2));
  await image.writeZeroes(4 * clusterSize, 2 * clusterSize, false);
  await image.writeCompressed(20 * clusterSize, new Uint8Array(clusterSize).fill(3));
  await image.writeCompressed(21 * clusterSize, new Uint8Array(clusterSize).fill(4));
  await createSnapshot(image, "one");
  await image.write(2 * clusterSize + 512, some(1, 5));
  await image.discard(71 * clusterSize, 2 * clusterSize);
  await image.alone(async () => {});
  const { header, mapping, refcounts } = image.metadata;
  const tables = [
    { start: 0, length: 112 },
    { start: 0, length: 112 },
    { start: header.l1Offset, length: header.l1Size * 8 },
  ];
  for (let index = 0; index < mapping.tables; index++)
    tables.push({ start: mapping.tableAt(index), length: clusterSize });
  tables.push({ start: header.refcountTableOffset, length: 16 }, { start: refcounts.blockAt(0), length: 128 });
  const [snapshot] = await listSnapshots(image);
  tables.push(
    { start: header.snapshotsOffset, length: 80 },
    { start: snapshot!.l1Offset, length: snapshot!.l1Size * 8 },
  );
  if (shape.version !== 2) {
    const bitmaps = new DiskBitmaps(() => image);
    await bitmaps.add("follows", { persistent: true, granularity: 512 });
    await bitmaps.add("stays", { persistent: true, granularity: 512, disabled: true });
    await image.write(9 * clusterSize, some(1, 6));
  }
  await image.close();
  const directory = await readBitmapDirectory(store, header);
  if (directory !== undefined) {
    const { offset, length, entries } = directory;
    tables.push({ start: offset, length }, { start: entries[0]!.tableOffset, length: 16 });
  }
  return { bytes: store.content(), tables: tables.filter(({ start, length }) => start > 0 || length === 112) };
}

/** Some bytes of some tables are others. */
function damage(base: Base, random: Random): Uint8Array {
  const bytes = base.bytes.slice();
  for (let count = 1 + random.below(3); count > 0; count--) {
    const { start, length } = random.pick(base.tables);
    // Entries that are used stand at the beginning.
    const at = start + random.below(random.chance(0.7) ? Math.min(length, 128) : length);
    const how = random.below(4);
    if (how < 2) bytes[at]! ^= 1 << random.below(8);
    else if (how === 2) bytes[at] = random.pick([0, 1, 0x7f, 0x80, 0xff, random.below(256)]);
    else {
      // Another entry of some table, or another place in the file.
      const from = random.pick(base.tables).start + random.below(16) * 8;
      bytes.copyWithin(at - (at % 8), from, from + 8);
    }
  }
  return random.chance(0.03) ? bytes.subarray(0, random.below(bytes.length)) : bytes;
}

async function survive(damaged: Uint8Array, random: Random, number: number): Promise<void> {
  const store = JournalStore.of(damaged);
  const repairs = number % REPAIR_EVERY === 0;
  const before = repairs ? await readAll(store) : [];
  if (!repairs) await readAtOnce(store);
  await ours(() => checkQcow2(store));
  if (number % WRITE_EVERY === 0) {
    const written = JournalStore.of(damaged);
    await ours(async () => work(await openQcow2(written), random));
    assert.ok(written.sizeBytes < damaged.length + MOST_GROWTH, "the file grew beyond measure");
  }
  if (!repairs) return;
  const repaired = await ours(() => checkQcow2(store, "all"));
  assert.ok(store.sizeBytes < damaged.length + MOST_GROWTH, "the file grew beyond measure");
  if (repaired === undefined) return;
  const after = await readAll(store);
  for (const [at, sector] of before.entries()) {
    if (sector === undefined) continue;
    assert.ok(
      after[at] !== undefined && Buffer.compare(sector, after[at]) === 0,
      `sector ${at} was lost by the repair`,
    );
  }
}

async function readAtOnce(store: JournalStore): Promise<void> {
  await ours(async () => {
    const image = await openQcow2(store, { damaged: true });
    const length = Math.min(image.sizeBytes, MOST_READ);
    await image.read(0, [new Uint8Array(length)]);
    if (length > 0) await image.status(0, length);
  });
}

/** What the disk reads as, by sectors; undefined where it cannot be read. */
async function readAll(store: JournalStore): Promise<(Uint8Array | undefined)[]> {
  const sectors: (Uint8Array | undefined)[] = [];
  await ours(async () => {
    const image = await openQcow2(store, { damaged: true });
    for (let at = 0; at < Math.min(image.sizeBytes, MOST_READ); at += 512) {
      const sector = new Uint8Array(512);
      const read = await ours(async () => {
        await image.read(at, [sector]);
        return sector;
      });
      sectors.push(read);
    }
  });
  return sectors;
}

async function work(image: Qcow2Image, random: Random): Promise<void> {
  const size = Math.min(image.sizeBytes, MOST_READ);
  for (let count = 0; count < 3 && size > 0; count++) {
    const offset = random.below(size / 512) * 512;
    const length = Math.min(size - offset, 512 * (1 + random.below(16)));
    if (random.chance(0.6)) await ours(() => image.write(offset, [new Uint8Array(length).fill(9)]));
    else await ours(() => image.writeZeroes(offset, length, random.chance(0.5)));
  }
  await ours(() => image.status(0, size));
  if (random.chance(0.1)) await ours(() => random.pick([applySnapshot, deleteSnapshot])(image, "1"));
  if (random.chance(0.1)) await ours(() => createSnapshot(image, "two"));
  if (random.chance(0.1)) await ours(() => image.resize(random.below(200) * 512));
  await ours(() => image.flush());
  await ours(() => image.close());
}

/** Undefined where one of our own errors says why not; any other is a bug. */
async function ours<T>(what: () => Promise<T>): Promise<T | undefined> {
  try {
    return await what();
  } catch (cause) {
    if (cause instanceof StorageError) return undefined;
    throw cause;
  }
}
