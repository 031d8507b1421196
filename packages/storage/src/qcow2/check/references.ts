/** Who leads to which cluster: the whole of an image is walked once, whatever it claims. */

import type { Store } from "../../image.ts";
import { countBitmaps } from "../bitmaps/references.ts";
import { entryBytesOf, type Header } from "../header.ts";
import { Entry, Limit, viewOf } from "../layout.ts";
import { Mapping } from "../mapping.ts";
import { readSnapshots, readStored } from "../stored.ts";
import { TableCache } from "../table-cache.ts";
import { Counts } from "./counts.ts";
import type { Findings } from "./findings.ts";

/** An L2 table: how often L1 tables lead to it, and from where in the active one. */
export interface FoundTable {
  offset: number;
  references: number;
  activeIndex: number | undefined;
}

export interface References {
  counts: Counts;
  tables: Map<number, FoundTable>;
  l1: Uint8Array<ArrayBuffer>;
  mapping: Mapping;
  /** References of the refcount table to its blocks and of the header to it, by cluster. */
  refcountClusters: Map<number, number>;
  /** Of the active L1 table, as `qemu-img check` counts them. */
  allocatedClusters: number;
  compressedClusters: number;
  fragmentedClusters: number;
}

/** Counts every reference in the image. A table that many name is read once, so this ends with the image's size. */
export async function findReferences(store: Store, header: Header, findings: Findings): Promise<References> {
  const clusterSize = 2 ** header.clusterBits;
  const counts = new Counts(clusterSize, store.sizeBytes);
  const l1 = new Uint8Array(header.l1Size * 8);
  await readStored(store, header.l1Offset, l1);
  const mapping = new Mapping(store.name, new TableCache(store, clusterSize, 0), l1, clusterSize, entryBytesOf(header));
  const found: References = {
    counts,
    tables: new Map(),
    l1,
    mapping,
    refcountClusters: new Map(),
    allocatedClusters: 0,
    compressedClusters: 0,
    fragmentedClusters: 0,
  };
  counts.add(0, clusterSize, 1);
  countTable(found, findings, header.l1Offset, l1.length, "the L1 table");
  countL1(found, findings, viewOf(l1), clusterSize, store.sizeBytes, true);
  await countSnapshots(found, findings, store, header);
  await countBlocks(found, findings, store, header);
  await countBitmaps(store, header, counts, findings);
  for (const table of [...found.tables.values()]) await walkTable(found, findings, store, table);
  return found;
}

function countTable(found: References, findings: Findings, offset: number, length: number, what: string): void {
  if (length > 0 && !found.counts.add(offset, length, 1))
    findings.corrupt(`${what} at ${offset} is behind the end of the file`);
}

function countL1(
  { tables }: References,
  findings: Findings,
  l1: DataView,
  clusterSize: number,
  end: number,
  active: boolean,
): void {
  for (let index = 0; index < l1.byteLength / 8; index++) {
    const high = l1.getUint32(index * 8);
    const low = l1.getUint32(index * 8 + 4);
    if (high === 0 && low === 0) continue;
    const offset = (high & Entry.OFFSET_HIGH) * 2 ** 32 + low - (low & 0x1ff);
    if ((high & 0x7f000000) !== 0 || (low & 0x1ff) !== 0) {
      findings.corrupt(`entry ${index} of an L1 table has reserved bits set`);
    }
    if (offset === 0) continue;
    if (offset % clusterSize !== 0)
      findings.corrupt(`entry ${index} of an L1 table leads to ${offset}, inside a cluster`);
    else if (offset >= end)
      findings.corrupt(`entry ${index} of an L1 table leads to ${offset}, behind the end of the file`);
    else {
      const table = tables.get(offset) ?? { offset, references: 0, activeIndex: undefined };
      if (active && table.activeIndex !== undefined)
        findings.corrupt(`the L2 table at ${offset} is in the L1 table twice`);
      table.references += 1;
      if (active) table.activeIndex ??= index;
      tables.set(offset, table);
    }
  }
}

async function countSnapshots(found: References, findings: Findings, store: Store, header: Header): Promise<void> {
  const { snapshots, length } = await readSnapshots(store, header);
  countTable(found, findings, header.snapshotsOffset, length, "the snapshot table");
  // Tables of so many snapshots cannot all lie in the file beside each other.
  let left = 2 * store.sizeBytes + Limit.L1_BYTES;
  for (const { l1Offset, l1Size, id } of snapshots) {
    left -= l1Size * 8;
    if (left < 0) {
      findings.corrupt("the L1 tables of the snapshots are longer together than the file");
      return;
    }
    const l1 = new Uint8Array(l1Size * 8);
    await readStored(store, l1Offset, l1);
    countTable(found, findings, l1Offset, l1.length, `the L1 table of snapshot ${id}`);
    countL1(found, findings, viewOf(l1), 2 ** header.clusterBits, store.sizeBytes, false);
  }
}

async function countBlocks(
  { counts, refcountClusters }: References,
  findings: Findings,
  store: Store,
  header: Header,
): Promise<void> {
  const clusterSize = 2 ** header.clusterBits;
  const { refcountTableOffset, refcountTableClusters } = header;
  const bytes = refcountTableClusters * clusterSize;
  const first = refcountTableOffset / clusterSize;
  const note = (cluster: number) => refcountClusters.set(cluster, (refcountClusters.get(cluster) ?? 0) + 1);
  if (counts.add(refcountTableOffset, bytes, 1)) for (let at = 0; at < refcountTableClusters; at++) note(first + at);
  else findings.corrupt("the refcount table is behind the end of the file");
  const table = new Uint8Array(bytes);
  await readStored(store, refcountTableOffset, table);
  const view = viewOf(table);
  for (let index = 0; index < bytes / 8; index++) {
    const high = view.getUint32(index * 8);
    const low = view.getUint32(index * 8 + 4);
    if (high === 0 && low === 0) continue;
    const offset = high * 2 ** 32 + low;
    if (offset % clusterSize !== 0)
      findings.corrupt(`entry ${index} of the refcount table is ${offset}, inside a cluster`);
    else if (!counts.add(offset, clusterSize, 1))
      findings.corrupt(`the refcount block at ${offset} is behind the end of the file`);
    else {
      note(offset / clusterSize);
      if (counts.get(offset / clusterSize) > 1)
        findings.corrupt(`the refcount block at ${offset} is used for something else, too`);
    }
  }
}

async function walkTable(found: References, findings: Findings, store: Store, table: FoundTable): Promise<void> {
  const { counts, mapping } = found;
  const { clusterSize, entryBytes } = mapping;
  counts.add(table.offset, clusterSize, table.references);
  const bytes = new Uint8Array(clusterSize);
  await readStored(store, table.offset, bytes);
  const view = viewOf(bytes);
  let expected = 0;
  for (let at = 0; at < clusterSize; at += entryBytes) {
    const high = view.getUint32(at);
    const low = view.getUint32(at + 4);
    const mask = entryBytes === 16 ? view.getUint32(at + 8) | view.getUint32(at + 12) : 0;
    if (high === 0 && low === 0 && mask === 0) continue;
    const held = mapping.holdsAt(view, at);
    const where = `entry ${at / entryBytes} of the L2 table at ${table.offset}`;
    if (held.compressed) {
      const { offset, length } = mapping.compressedPlace(view, at);
      if (high >= Entry.COPIED) findings.corrupt(`${where} is compressed, and marked as writable`);
      if (!counts.add(offset, length, table.references))
        findings.corrupt(`${where} leads to ${offset}, behind the end of the file`);
      if (table.activeIndex === undefined) continue;
      found.compressedClusters += 1;
      found.allocatedClusters += 1;
      found.fragmentedClusters += 1;
      continue;
    }
    if ((high & Entry.RESERVED_HIGH) !== 0 || (low & (entryBytes === 16 ? 0x1ff : Entry.RESERVED_LOW)) !== 0) {
      findings.corrupt(`${where} has reserved bits set`);
    }
    if (entryBytes === 16 && (view.getUint32(at + 8) & view.getUint32(at + 12)) !== 0) {
      findings.corrupt(`${where} says of one subcluster that it is data and zeros`);
    }
    if (held.count === 0) continue;
    const offset = held.first * clusterSize;
    if (!Number.isInteger(held.first)) findings.corrupt(`${where} leads to ${offset}, inside a cluster`);
    else if (!counts.add(offset, clusterSize, table.references))
      findings.corrupt(`${where} leads to ${offset}, behind the end of the file`);
    else if (table.activeIndex !== undefined) {
      found.allocatedClusters += 1;
      if (expected !== 0 && offset !== expected) found.fragmentedClusters += 1;
      expected = offset + clusterSize;
    }
  }
}
