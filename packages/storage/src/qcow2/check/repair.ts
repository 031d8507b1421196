/**
 * Making an image consistent. What can be read stays as it reads: entries are only changed where that is so. The
 * refcounts are written anew, all of them, at the end of the file; one write of the header puts them in place.
 */

import { StorageError } from "../../errors.ts";
import type { Store } from "../../image.ts";
import { encodeHeader, type Header } from "../header.ts";
import { Entry, Incompatible, Limit, roundUp, setU64, viewOf } from "../layout.ts";
import { readStored } from "../stored.ts";
import type { FoundTable, References } from "./references.ts";
import { setRefcountAt } from "./stored-counts.ts";

export async function repair(store: Store, header: Header, found: References): Promise<void> {
  const { counts } = found;
  if (header.l1Size > 0 && header.l1Offset >= store.sizeBytes) {
    throw found.mapping.corrupt(
      "its L1 table is behind the file's end, so that nothing can be found: it cannot be repaired",
    );
  }
  // The old refcounts go, whatever leads to their clusters besides.
  for (const [cluster, references] of found.refcountClusters) counts.add(cluster * counts.clusterSize, 1, -references);
  // From here on there is room for what is new.
  const fileEnd = counts.end;
  const end = { cluster: fileEnd };
  counts.end = Number.MAX_SAFE_INTEGER;
  dropTablesOutside(found, fileEnd * counts.clusterSize);
  moveL1(header, found, end);
  for (const table of found.tables.values()) await moveOut(store, header, found, table, fileEnd, end);
  await mark(store, header, found, (copied, alone) => copied && alone);
  await writeRefcounts(store, header, found, end);
  await mark(store, header, found, (_, alone) => alone);
}

/** Guest data that lies in what is written in place gets clusters of its own; data behind the file's end reads as zeros. */
async function moveOut(
  store: Store,
  header: Header,
  found: References,
  table: FoundTable,
  fileEnd: number,
  end: { cluster: number },
): Promise<void> {
  const { mapping, counts } = found;
  const { clusterSize, entryBytes } = mapping;
  const l1 = [header.l1Offset / clusterSize, (header.l1Offset + header.l1Size * 8) / clusterSize] as const;
  const bytes = new Uint8Array(clusterSize);
  await readStored(store, table.offset, bytes);
  const view = viewOf(bytes);
  let changed = moveTable(found, table, end);
  if (table.activeIndex === undefined && counts.get(table.offset / clusterSize) > table.references) return;
  for (let at = 0; at < clusterSize; at += entryBytes) {
    const { first, count, compressed } = mapping.holdsAt(view, at);
    if (compressed && view.getUint32(at) >= Entry.COPIED) {
      view.setUint32(at, view.getUint32(at) & ~Entry.COPIED);
      changed = true;
    }
    if (compressed || count === 0 || !Number.isInteger(first)) continue;
    if (first >= fileEnd) {
      // It read as zeros, and what comes behind the end now would show instead.
      if (header.version === 2) {
        const place = end.cluster * clusterSize;
        end.cluster += 1;
        await store.write(place, [new Uint8Array(clusterSize)]);
        counts.add(place, clusterSize, table.references);
        setU64(view, at, place);
      } else {
        if (entryBytes === 16) view.setUint32(at + 8, view.getUint32(at + 8) | view.getUint32(at + 12));
        setU64(view, at, entryBytes === 16 ? 0 : Entry.ZERO);
        if (entryBytes === 16) view.setUint32(at + 12, 0);
      }
      changed = true;
    } else if (first === 0 || (first >= l1[0] && first < l1[1])) {
      const data = new Uint8Array(clusterSize);
      await readStored(store, first * clusterSize, data);
      const place = end.cluster * clusterSize;
      end.cluster += 1;
      await store.write(place, [data]);
      counts.add(first * clusterSize, 1, -table.references);
      counts.add(place, clusterSize, table.references);
      const low = view.getUint32(at + 4) & 0x1ff;
      setU64(view, at, place + low);
      changed = true;
    }
  }
  if (!changed) return;
  await store.flush();
  await store.write(table.offset, [bytes]);
}

/** An L1 table whose clusters are something else besides gets a place of its own, which the header will lead to. */
function moveL1(header: Header, { l1, counts }: References, end: { cluster: number }): void {
  const first = header.l1Offset / counts.clusterSize;
  const clusters = Math.ceil(l1.length / counts.clusterSize);
  let shared = false;
  for (let cluster = first; cluster < first + clusters; cluster++) if (counts.get(cluster) > 1) shared = true;
  if (!shared) return;
  counts.add(header.l1Offset, l1.length, -1);
  header.l1Offset = end.cluster * counts.clusterSize;
  end.cluster += clusters;
  counts.add(header.l1Offset, l1.length, 1);
}

/** An active table whose cluster is something else besides becomes one with a place of its own; true then. */
function moveTable({ l1, counts }: References, table: FoundTable, end: { cluster: number }): boolean {
  const cluster = table.offset / counts.clusterSize;
  if (table.activeIndex === undefined || counts.get(cluster) <= table.references) return false;
  counts.add(table.offset, 1, -1);
  table.offset = end.cluster * counts.clusterSize;
  end.cluster += 1;
  counts.add(table.offset, 1, 1);
  table.references = 1;
  setU64(viewOf(l1), table.activeIndex * 8, table.offset);
  return true;
}

/** L1 entries behind the file's end: what is there reads as absent, and an entry of 0 says that. */
function dropTablesOutside({ l1, mapping }: References, fileBytes: number): void {
  const view = viewOf(l1);
  for (let index = 0; index < l1.length / 8; index++) {
    const offset =
      (view.getUint32(index * 8) & Entry.OFFSET_HIGH) * 2 ** 32 + (view.getUint32(index * 8 + 4) >>> 9) * 512;
    if (offset >= fileBytes && offset % mapping.clusterSize === 0) setU64(view, index * 8, 0);
  }
}

/** Marks what the active L1 table leads to as writable or shared. */
async function mark(
  store: Store,
  header: Header,
  { l1, tables, counts, mapping }: References,
  copied: (was: boolean, alone: boolean) => boolean,
): Promise<void> {
  const { clusterSize, entryBytes } = mapping;
  const set = (view: DataView, at: number, alone: boolean): boolean => {
    const high = view.getUint32(at);
    const now = copied(high >= Entry.COPIED, alone) ? high | Entry.COPIED : high & ~Entry.COPIED;
    view.setUint32(at, now);
    return now >>> 0 !== high;
  };
  for (const { offset, activeIndex } of tables.values()) {
    if (activeIndex === undefined) continue;
    set(viewOf(l1), activeIndex * 8, counts.get(offset / clusterSize) === 1);
    const bytes = new Uint8Array(clusterSize);
    await readStored(store, offset, bytes);
    const view = viewOf(bytes);
    let changed = false;
    for (let at = 0; at < clusterSize; at += entryBytes) {
      const { first, count, compressed } = mapping.holdsAt(view, at);
      if (compressed || count === 0 || !Number.isInteger(first)) continue;
      if (set(view, at, counts.get(first) === 1)) changed = true;
    }
    if (changed) await store.write(offset, [bytes]);
  }
  await store.write(header.l1Offset, [l1]);
  await store.flush();
}

async function writeRefcounts(
  store: Store,
  header: Header,
  found: References,
  end: { cluster: number },
): Promise<void> {
  const { counts } = found;
  const { clusterSize } = counts;
  const order = orderFor(header, found, store.name);
  const bits = 2 ** order;
  const perBlock = (clusterSize * 8) / bits;
  const blocks = new Map<number, Uint8Array>();
  const count = (cluster: number, references: number) => {
    const index = Math.floor(cluster / perBlock);
    let block = blocks.get(index);
    if (block === undefined) {
      block = new Uint8Array(clusterSize);
      blocks.set(index, block);
    }
    setRefcountAt(block, cluster % perBlock, bits, references);
  };
  for (const [cluster, references] of counts.used()) count(cluster, references);
  // The table and the blocks are counted in the blocks, which may need further blocks.
  let tableClusters = 1;
  const first = end.cluster;
  for (let counted = first; counted < first + tableClusters + blocks.size; counted++) {
    count(counted, 1);
    const bytes = (Math.max(...blocks.keys()) + 1) * 8;
    tableClusters = Math.max(tableClusters, Math.ceil(bytes / clusterSize));
  }
  const table = new Uint8Array(roundUp(tableClusters * clusterSize, clusterSize));
  if (table.length > Limit.REFCOUNT_TABLE_BYTES) {
    throw new StorageError("STORAGE_IO", `${store.name}: the image is too large for its refcounts to be written anew`);
  }
  let place = first + tableClusters;
  for (const [index, block] of blocks) {
    await store.write(place * clusterSize, [block]);
    setU64(viewOf(table), index * 8, place * clusterSize);
    place += 1;
  }
  await store.write(first * clusterSize, [table]);
  await store.flush();
  header.refcountTableOffset = first * clusterSize;
  header.refcountTableClusters = tableClusters;
  header.refcountOrder = order;
  header.incompatible &= ~Incompatible.DIRTY;
  await store.write(0, [encodeHeader(header, store.name)]);
  await store.flush();
}

/** Wide enough for what is to be counted; version 2 has 16 bits. */
function orderFor(header: Header, { counts }: References, name: string): number {
  let most = 1;
  for (const [, references] of counts.used()) most = Math.max(most, references);
  let order = header.refcountOrder;
  while (order < 6 && most > 2 ** (2 ** order) - 1) order += 1;
  if (header.version === 2 && order !== 4) {
    throw new StorageError("STORAGE_IO", `${name}: a cluster has ${most} references, more than version 2 can count`);
  }
  return order;
}
