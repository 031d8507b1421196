/** Internal snapshots. All of this runs while nobody else is at work on the image. */

import { StorageError } from "../errors.ts";
import { Counts } from "./check/counts.ts";
import { Entry, Limit, viewOf } from "./layout.ts";
import type { Qcow2Image } from "./qcow2-image.ts";
import { encodeSnapshots, findSnapshot, l1Of, type Snapshot } from "./snapshot-table.ts";
import { readSnapshots, readStored } from "./stored.ts";

/** What the image has, oldest first. */
export async function listSnapshots(image: Qcow2Image): Promise<Snapshot[]> {
  return (await readSnapshots(image.metadata.store, image.metadata.header)).snapshots;
}

/** Keeps the disk as it is now under a name. */
export function createSnapshot(image: Qcow2Image, name: string, date = new Date()): Promise<Snapshot> {
  return image.alone(async () => {
    const { metadata } = image;
    const { header, mapping, refcounts } = metadata;
    const snapshots = await listSnapshots(image);
    if (snapshots.length === Limit.SNAPSHOTS)
      throw new StorageError("STORAGE_OPEN", `${image.name}: no more snapshots fit`);
    const counts = await countTree(image, mapping.l1);
    await refuseOverflow(image, counts);
    const id = String(Math.max(0, ...snapshots.map((snapshot) => Number(snapshot.id) || 0)) + 1);
    const l1 = withoutFlags(mapping.l1);
    const l1Offset = await storeBytes(image, l1);
    const milliseconds = date.getTime();
    const snapshot: Snapshot = {
      id,
      name,
      l1Offset,
      l1Size: header.l1Size,
      sizeBytes: header.sizeBytes,
      dateSeconds: Math.floor(milliseconds / 1000),
      dateNanoseconds: (milliseconds % 1000) * 1e6,
      vmClockNanoseconds: 0n,
      vmStateBytes: 0,
      extra: new Uint8Array(),
    };
    const kept = [...snapshots, snapshot];
    const table = encodeSnapshots(kept);
    const tableOffset = await storeBytes(image, table);
    // From here on a cut leaves counts that are too high and marks that are wrong: the dirty bit has them mended.
    await metadata.setDirty();
    for (const [cluster, references] of counts.used()) {
      await refcounts.add(cluster, references);
      await metadata.room();
    }
    await metadata.commit();
    await setMarks(image, async () => false);
    await metadata.commit();
    await useTable(image, table, tableOffset, kept);
    await metadata.settle();
    return snapshot;
  });
}

/** The disk becomes what it was when the snapshot was made; what was written since is lost. */
export function applySnapshot(image: Qcow2Image, name: string): Promise<void> {
  return image.alone(async () => {
    const { metadata } = image;
    const { header, mapping, refcounts, store, clusterSize } = metadata;
    const snapshot = findSnapshot(await listSnapshots(image), name, image.name);
    await image.bitmaps.load();
    const needed = Math.ceil(snapshot.sizeBytes / mapping.tableSpan);
    if (needed * 8 > Limit.L1_BYTES) {
      throw mapping.corrupt(`snapshot ${snapshot.id} is said to be of ${snapshot.sizeBytes} bytes, more than can be`);
    }
    const l1 = new Uint8Array(Math.max(needed, snapshot.l1Size) * 8);
    await readStored(store, snapshot.l1Offset, l1.subarray(0, snapshot.l1Size * 8));
    l1.set(withoutFlags(l1));
    const counts = await countTree(image, l1);
    await refuseOverflow(image, counts);
    const l1Offset = await storeBytes(image, l1);
    await metadata.setDirty();
    for (const [cluster, references] of counts.used()) {
      await refcounts.add(cluster, references);
      await metadata.room();
    }
    const old = { l1: mapping.l1.slice(), offset: header.l1Offset };
    const oldCounts = await countTree(image, old.l1);
    await metadata.commit();
    header.l1Offset = l1Offset;
    header.l1Size = l1.length / 8;
    header.sizeBytes = snapshot.sizeBytes;
    await metadata.writeHeader();
    mapping.useTable(l1);
    metadata.noteTables();
    metadata.free(old.offset / clusterSize, Math.ceil(old.l1.length / clusterSize));
    await freeTree(image, oldCounts);
    await metadata.commit();
    await setMarks(image, async () => false);
    await metadata.settle();
    image.bitmaps.replaced();
  });
}

/** Forgets a snapshot; the disk stays as it is. */
export function deleteSnapshot(image: Qcow2Image, name: string): Promise<void> {
  return image.alone(async () => {
    const { metadata } = image;
    const { refcounts, store, clusterSize } = metadata;
    const snapshots = await listSnapshots(image);
    const snapshot = findSnapshot(snapshots, name, image.name);
    const l1 = new Uint8Array(snapshot.l1Size * 8);
    await readStored(store, snapshot.l1Offset, l1);
    const counts = await countTree(image, l1);
    const left = snapshots.filter((other) => other !== snapshot);
    const table = encodeSnapshots(left);
    const tableOffset = left.length === 0 ? 0 : await storeBytes(image, table);
    await metadata.setDirty();
    await useTable(image, table, tableOffset, left);
    metadata.free(snapshot.l1Offset / clusterSize, Math.ceil(l1.length / clusterSize));
    await freeTree(image, counts);
    await metadata.reclaimed();
    await setMarks(image, async (cluster) => (await refcounts.get(cluster)) === 1);
    await metadata.settle();
  });
}

/** Puts bytes into clusters of their own. */
async function storeBytes(image: Qcow2Image, bytes: Uint8Array): Promise<number> {
  const { refcounts, store, clusterSize } = image.metadata;
  if (bytes.length === 0) return clusterSize;
  const offset = await refcounts.allocateAll(Math.ceil(bytes.length / clusterSize));
  await store.write(offset, [bytes]);
  await image.metadata.commit();
  return offset;
}

async function useTable(
  image: Qcow2Image,
  table: Uint8Array,
  offset: number,
  snapshots: readonly Snapshot[],
): Promise<void> {
  const { metadata } = image;
  const old = metadata.snapshotTable;
  await metadata.store.flush();
  metadata.header.snapshotsOffset = offset;
  metadata.header.snapshotCount = snapshots.length;
  await metadata.writeHeader();
  metadata.useSnapshots({ list: { offset, length: table.length }, l1s: snapshots.map(l1Of) });
  if (old.length > 0) metadata.free(old.offset / metadata.clusterSize, Math.ceil(old.length / metadata.clusterSize));
}

function withoutFlags(l1: Uint8Array): Uint8Array<ArrayBuffer> {
  const copy = new Uint8Array(l1);
  const view = viewOf(copy);
  for (let at = 0; at < copy.length; at += 8) view.setUint32(at, view.getUint32(at) & ~Entry.COPIED);
  return copy;
}

/** How often an L1 table leads to each cluster, directly and through its L2 tables. */
async function countTree(image: Qcow2Image, l1: Uint8Array): Promise<Counts> {
  const { store, clusterSize, mapping } = image.metadata;
  const counts = new Counts(clusterSize, store.sizeBytes);
  const view = viewOf(l1);
  const table = new Uint8Array(clusterSize);
  for (let index = 0; index < l1.length / 8; index++) {
    const offset =
      (view.getUint32(index * 8) & Entry.OFFSET_HIGH) * 2 ** 32 + (view.getUint32(index * 8 + 4) >>> 9) * 512;
    if (offset === 0) continue;
    const outside = offset % clusterSize !== 0 || counts.get(offset / clusterSize) > 0;
    if (outside || !counts.add(offset, clusterSize, 1)) {
      throw mapping.corrupt(`an L1 table leads to ${offset}, where no table of its own can be: check the image first`);
    }
    table.fill(0);
    await readStored(store, offset, table);
    for (let at = 0; at < clusterSize; at += mapping.entryBytes) {
      const { first, count } = mapping.holdsAt(viewOf(table), at);
      if (count === 0) continue;
      if (!Number.isInteger(first) || !counts.add(first * clusterSize, count * clusterSize, 1)) {
        throw mapping.corrupt(
          `an L2 table leads to ${first * clusterSize}, where no cluster is: check the image first`,
        );
      }
    }
  }
  return counts;
}

async function refuseOverflow(image: Qcow2Image, counts: Counts): Promise<void> {
  const { refcounts } = image.metadata;
  for (const [cluster, references] of counts.used()) {
    if ((await refcounts.get(cluster)) + references <= refcounts.most) continue;
    const what = `refcounts of ${refcounts.bits} bits are too narrow for another snapshot`;
    throw new StorageError("STORAGE_OPEN", `${image.name}: ${what}`);
  }
}

async function freeTree(image: Qcow2Image, counts: Counts): Promise<void> {
  for (const [cluster, references] of counts.used()) {
    for (let count = 0; count < references; count++) image.metadata.free(cluster, 1);
    await image.metadata.room();
  }
}

/** Marks what the active tables lead to as this disk's alone, or as shared. */
async function setMarks(image: Qcow2Image, alone: (cluster: number) => Promise<boolean>): Promise<void> {
  const { metadata } = image;
  const { mapping, l2, clusterSize } = metadata;
  for (let index = 0; index < mapping.tables; index++) {
    const table = mapping.tableAt(index);
    if (table === 0) continue;
    for (let offset = table; offset < table + clusterSize; offset += l2.sliceBytes) {
      let slice = l2.peek(offset);
      for (; slice === undefined; slice = l2.peek(offset)) await l2.load(offset);
      // What it waits for may take the slice's place.
      const before = viewOf(slice.bytes.slice());
      for (let at = 0; at < l2.sliceBytes; at += mapping.entryBytes) {
        const { first, count, compressed } = mapping.holdsAt(before, at);
        if (compressed || count === 0) continue;
        const mark = (await alone(first)) ? Entry.COPIED : 0;
        if ((before.getUint32(at) & Entry.COPIED) >>> 0 === mark) continue;
        slice = l2.peek(offset);
        for (; slice === undefined; slice = l2.peek(offset)) await l2.load(offset);
        slice.view.setUint32(at, (slice.view.getUint32(at) & ~Entry.COPIED) | mark);
        l2.touch(slice);
      }
      await metadata.room();
    }
    mapping.setTable(index, table, await alone(table / clusterSize));
  }
}
