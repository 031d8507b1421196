/**
 * What a qcow2 image knows of itself, in memory, and the order in which it is stored.
 *
 * Tables change in memory; {@link Metadata.commit} stores a picture of them all, taken at one moment, in an order that
 * leaves the image whole wherever it is cut off: counts before what is counted, tables before what leads to them, with a
 * flush between. What is no longer counted is counted down only when nothing stored leads to it any more, so that its
 * space cannot be given out again before: a cut can lose space, never content.
 */

import { StorageError } from "../errors.ts";
import { type Gate, Turns } from "../gate.ts";
import type { Store } from "../image.ts";
import { encodeHeader, entryBytesOf, type Header } from "./header.ts";
import { Compatible, Incompatible } from "./layout.ts";
import { Mapping } from "./mapping.ts";
import { Refcounts } from "./refcounts.ts";
import { type SliceCopy, TableCache } from "./table-cache.ts";

/** Clusters given up, as runs; more than this many runs are not left to wait for a flush. */
const MOST_FREED = 4096;

export interface CacheSizes {
  /** Bytes of L2 tables in memory. */
  l2Bytes?: number;
  refcountBytes?: number;
}

/** Bytes of the store. */
interface Range {
  readonly offset: number;
  readonly length: number;
}

/** Where the snapshots' list is, and their L1 tables: never data. */
export interface SnapshotTables {
  readonly list: Range;
  readonly l1s: readonly Range[];
}

export interface MetadataParts {
  store: Store;
  header: Header;
  gate: Gate;
  l1: Uint8Array<ArrayBuffer>;
  refcountTable: Uint8Array<ArrayBuffer>;
  snapshotTables: SnapshotTables;
  cacheSizes: CacheSizes;
}

interface Freed {
  first: number;
  count: number;
}

export class Metadata {
  readonly store: Store;
  readonly header: Header;
  /** What the stored header goes on saying instead, until what is being done is lasting. */
  readonly told: { sizeBytes?: number } = {};
  readonly clusterSize: number;
  readonly mapping: Mapping;
  readonly refcounts: Refcounts;
  readonly l2: TableCache;
  readonly blocks: TableCache;
  /** The list of snapshots. */
  snapshotTable!: Range;
  /** Where the list of bitmaps is, while anybody writes. */
  bitmapDirectory: Range = { offset: 0, length: 0 };
  /** In order, and none over another. */
  #snapshotL1s: readonly Range[] = [];
  /** How often clusters were given up. */
  frees = 0;
  readonly #gate: Gate;
  /** Clusters that hold L2 tables and refcount blocks. */
  readonly #tables = new Set<number>();
  /** None of them was ever behind this one. */
  #lastTable = 0;
  readonly #commits = new Turns();
  readonly #making = new Turns();
  readonly #reclaims = new Turns();
  #freed: Freed[] = [];
  /** Something was written since the last flush of the store. */
  #unflushed = false;
  #failure: Error | undefined;

  constructor(parts: MetadataParts) {
    const { store, header, l1, refcountTable, cacheSizes } = parts;
    this.store = store;
    this.header = header;
    this.#gate = parts.gate;
    this.useSnapshots(parts.snapshotTables);
    this.clusterSize = 2 ** header.clusterBits;
    this.l2 = new TableCache(store, this.clusterSize, cacheSizes.l2Bytes ?? 12 << 20);
    this.blocks = new TableCache(store, this.clusterSize, cacheSizes.refcountBytes ?? 4 << 20);
    this.mapping = new Mapping(store.name, this.l2, l1, this.clusterSize, entryBytesOf(header));
    this.refcounts = new Refcounts({
      store,
      cache: this.blocks,
      clusterSize: this.clusterSize,
      order: header.refcountOrder,
      table: refcountTable,
      tableOffset: header.refcountTableOffset,
      withoutTables: (first, count) => this.#withoutTables(first, count),
      replaceTable: (table, offset) => this.#replaceRefcountTable(table, offset),
      blockMade: (cluster) => this.#noteTable(cluster),
    });
    this.#findTables();
  }

  /** Where tables are; a block that counts in two places would make every search for space endless. */
  #findTables(): void {
    for (let index = 0; index < this.refcounts.blocks; index++) {
      const cluster = this.refcounts.blockAt(index) / this.clusterSize;
      if (cluster !== 0 && this.#tables.has(cluster)) {
        throw this.mapping.corrupt(`the refcount block at ${cluster * this.clusterSize} is named twice`);
      }
      if (cluster !== 0) this.#noteTable(cluster);
    }
    this.noteTables();
  }

  #noteTable(cluster: number): void {
    this.#tables.add(cluster);
    this.#lastTable = Math.max(this.#lastTable, cluster);
  }

  /** The active L2 tables are those of the L1 table as it is now. */
  noteTables(): void {
    for (let index = 0; index < this.mapping.tables; index++) {
      const offset = this.mapping.tableAt(index);
      if (offset !== 0) this.#noteTable(offset / this.clusterSize);
    }
  }

  /** Whether a cluster holds what must never be overwritten with a guest's data. */
  isMetadata(cluster: number): boolean {
    return cluster === 0 || this.#tables.has(cluster) || this.#meetsLongTable(cluster, 1);
  }

  /** Snapshots are there from now on. */
  useSnapshots({ list, l1s }: SnapshotTables): void {
    this.snapshotTable = list;
    const ranges: { offset: number; length: number }[] = [];
    for (const { offset, length } of l1s.toSorted((one, other) => one.offset - other.offset)) {
      // Where there is no file, there is no table: what an image claims makes no search for space longer than that.
      const end = Math.min(offset + length, this.store.sizeBytes);
      const last = ranges.at(-1);
      if (last !== undefined && last.offset + last.length >= offset) {
        last.length = Math.max(last.length, end - last.offset);
      } else if (end > offset) {
        ranges.push({ offset, length: end - offset });
      }
    }
    this.#snapshotL1s = ranges;
  }

  #meetsSnapshotL1(from: number, to: number): boolean {
    const ranges = this.#snapshotL1s;
    let [low, high] = [0, ranges.length];
    while (low < high) {
      const middle = (low + high) >> 1;
      if (ranges[middle]!.offset < to) low = middle + 1;
      else high = middle;
    }
    const last = ranges[low - 1];
    return last !== undefined && last.offset + last.length > from;
  }

  /** Whether one of the tables that lie in one piece has a part of these clusters. */
  #meetsLongTable(first: number, count: number): boolean {
    const { header, snapshotTable, bitmapDirectory, clusterSize } = this;
    const [from, to] = [first * clusterSize, (first + count) * clusterSize];
    const meets = (start: number, length: number) => length > 0 && to > start && from < start + length;
    return (
      meets(header.refcountTableOffset, this.refcounts.tableBytes) ||
      meets(header.l1Offset, header.l1Size * 8) ||
      meets(snapshotTable.offset, snapshotTable.length) ||
      meets(bitmapDirectory.offset, bitmapDirectory.length) ||
      this.#meetsSnapshotL1(from, to)
    );
  }

  /** How many of these clusters come before the first that {@link isMetadata}. */
  #withoutTables(first: number, count: number): number {
    // New ones are at the end, as a rule.
    if (first > this.#lastTable && !this.#meetsLongTable(first, count)) return count;
    let free = 0;
    while (free < count && !this.isMetadata(first + free)) free += 1;
    return free;
  }

  /** Data was written: a flush has something to do. */
  wrote(): void {
    this.#unflushed = true;
  }

  /** Gives up clusters of the store; they are counted down when that is stored. */
  free(first: number, count: number): void {
    if (count === 0) return;
    this.frees += 1;
    const last = this.#freed.at(-1);
    if (last !== undefined && last.first + last.count === first) last.count += count;
    else this.#freed.push({ first, count });
  }

  /** Gives up what the entry of a guest's cluster holds; its slice is in memory. */
  freeEntry(offset: number): void {
    const { first, count } = this.mapping.holds(offset);
    this.free(first, count);
  }

  /** Waits where too much would pile up in memory. */
  async room(): Promise<void> {
    const full = (cache: TableCache) => cache.dirtyCount > cache.capacity / 2;
    if (full(this.l2) || full(this.blocks) || this.#freed.length > MOST_FREED) await this.commit();
  }

  /** Makes sure that an L2 table is there and this image's alone. */
  ensureTable(index: number): Promise<void> | undefined {
    if (this.mapping.tableAt(index) !== 0 && this.mapping.tableCopied(index)) return undefined;
    return this.#making.take(async () => {
      const { mapping, clusterSize, store } = this;
      const old = mapping.tableAt(index);
      if (old !== 0 && mapping.tableCopied(index)) return;
      const { offset } = await this.refcounts.allocate(1);
      if (old === 0) {
        await store.writeZeroes(offset, clusterSize, true);
      } else {
        // Shared with a snapshot: nothing in it is this image's alone, so it is copied as it is.
        const table = new Uint8Array(clusterSize);
        await this.l2.load(old);
        await store.read(old, [table]);
        await store.write(offset, [table]);
        this.free(old / clusterSize, 1);
        this.#tables.delete(old / clusterSize);
      }
      this.l2.forget(offset, clusterSize);
      this.#noteTable(offset / clusterSize);
      mapping.setTable(index, offset);
    });
  }

  /** An L2 table is no longer needed. */
  dropTable(index: number): void {
    const offset = this.mapping.tableAt(index);
    if (offset === 0) return;
    this.l2.forget(offset, this.clusterSize);
    this.#tables.delete(offset / this.clusterSize);
    this.mapping.setTable(index, 0, false);
    this.free(offset / this.clusterSize, 1);
  }

  /** Stores everything that was written and changed until now. */
  commit(): Promise<void> {
    return this.#commits.take(() => this.#store(false));
  }

  /** A commit that others of its kind wait for; `finish` also stores refcounts that were put off. */
  async #store(finish: boolean): Promise<void> {
    const { store, refcounts, mapping } = this;
    const lazy = !finish && (this.header.compatible & Compatible.LAZY_REFCOUNTS) !== 0n;
    const blocks = lazy ? [] : this.blocks.takeDirty();
    const table = lazy ? [] : refcounts.dirtyTable.take();
    const l2 = this.l2.takeDirty();
    const l1 = mapping.dirty.take();
    const freed = this.#freed;
    this.#freed = [];
    const unflushed = this.#unflushed;
    this.#unflushed = false;
    let written = false;
    try {
      if (lazy && (l2.length > 0 || this.blocks.dirtyCount > 0)) await this.setDirty();
      await writeSlices(store, blocks);
      if (table.length > 0) {
        if (blocks.length > 0) await store.flush();
        for (const { at, bytes } of table) await store.write(refcounts.tableOffset + at, [bytes]);
      }
      if (l2.length > 0 || l1.length > 0) {
        // The flush is also for the data that these tables lead to.
        await store.flush();
        await writeSlices(store, l2);
        if (l1.length > 0) {
          await store.flush();
          for (const { at, bytes } of l1) await store.write(this.header.l1Offset + at, [bytes]);
        }
      }
      const changed = blocks.length + table.length + l2.length + l1.length > 0;
      if (changed || unflushed) await store.flush();
      written = true;
    } finally {
      if (!lazy) this.blocks.giveBack(blocks, written);
      this.l2.giveBack(l2, written);
      if (!written) {
        for (const { at } of table) refcounts.dirtyTable.touch(at);
        for (const { at } of l1) mapping.dirty.touch(at);
        this.#freed = [...freed, ...this.#freed];
        this.#unflushed = true;
      }
    }
    if (freed.length > 0) void this.#reclaims.take(() => this.#reclaim(freed));
    const failure = this.#failure;
    this.#failure = undefined;
    if (failure !== undefined) throw failure;
  }

  /** Counts down what nothing leads to any more, and gives its space back to the host. */
  async #reclaim(freed: readonly Freed[]): Promise<void> {
    try {
      // A request that began before may still be at work there.
      await this.#gate.drained();
      for (const { first, count } of freed) await this.#countDown(first, count);
    } catch (cause) {
      // The space is lost until a check finds it; the next flush tells of it.
      this.#failure ??= cause as Error;
    }
  }

  async #countDown(first: number, count: number): Promise<void> {
    const { refcounts, clusterSize } = this;
    for (let at = first; at < first + count; ) {
      // Runs of what nobody else counts on go back to the host together, before they can be given out again.
      let end = at;
      while (end < first + count && (await refcounts.get(end)) === 1) end += 1;
      if (end > at) await this.store.discard(at * clusterSize, (end - at) * clusterSize);
      else end = at + 1;
      for (; at < end; at++) await refcounts.add(at, -1);
    }
  }

  /** Stores everything, also what was put off, and waits until given-up clusters are free. */
  async settle(): Promise<void> {
    await this.reclaimed();
    await this.#commits.take(() => this.#store(true));
    await this.#clearDirty();
  }

  /** Stores everything and waits until what was given up has been counted down. */
  async reclaimed(): Promise<void> {
    await this.commit();
    await this.#reclaims.take(async () => {});
  }

  /** Whoever opens the image next counts its references again, unless it was settled. */
  async setDirty(): Promise<void> {
    // Version 2 has no such bit.
    if (this.header.version === 2) return;
    if ((this.header.incompatible & Incompatible.DIRTY) !== 0n) return;
    this.header.incompatible |= Incompatible.DIRTY;
    await this.writeHeader();
  }

  async #clearDirty(): Promise<void> {
    if ((this.header.incompatible & Incompatible.DIRTY) === 0n) return;
    this.header.incompatible &= ~Incompatible.DIRTY;
    await this.writeHeader();
  }

  /** Marks the image so that nobody writes it before it was repaired. */
  async markCorrupt(): Promise<void> {
    if (this.header.version === 2 || (this.header.incompatible & Incompatible.CORRUPT) !== 0n) return;
    this.header.incompatible |= Incompatible.CORRUPT;
    await this.writeHeader();
  }

  /** Stores the header, for good. All that leads to tables is in its first sector. */
  async writeHeader(): Promise<void> {
    const { sizeBytes = this.header.sizeBytes } = this.told;
    await this.store.write(0, [encodeHeader({ ...this.header, sizeBytes }, this.store.name)]);
    await this.store.flush();
  }

  #replaceRefcountTable(table: Uint8Array<ArrayBuffer>, offset: number): Promise<void> {
    return this.#commits.take(async () => {
      await this.#store(true);
      const { header, refcounts, clusterSize } = this;
      await this.store.write(offset, [table]);
      await this.store.flush();
      const old = { offset: header.refcountTableOffset, clusters: header.refcountTableClusters };
      header.refcountTableOffset = offset;
      header.refcountTableClusters = table.length / clusterSize;
      await this.writeHeader();
      refcounts.useTable(table, offset);
      this.free(old.offset / clusterSize, old.clusters);
    });
  }
}

/** Slices side by side are one write. */
async function writeSlices(store: Store, copies: readonly SliceCopy[]): Promise<void> {
  for (let at = 0; at < copies.length; ) {
    const start = copies[at]!.offset;
    const pieces = [];
    let end = start;
    for (; at < copies.length && copies[at]!.offset === end && pieces.length < 256; at++) {
      pieces.push(copies[at]!.bytes);
      end += copies[at]!.bytes.length;
    }
    await store.write(start, pieces);
  }
}

/** What a write to an image that contradicts itself is answered with. */
export function overwrites(name: string, host: number): StorageError {
  return new StorageError(
    "STORAGE_CORRUPT",
    `${name}: the image says that guest data is at ${host}, where its own tables are: repair it (lodge image check --repair)`,
  );
}
