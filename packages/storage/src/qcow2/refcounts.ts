/** Which clusters of the store are in use, and how often: the refcount table and its blocks. */

import { StorageError } from "../errors.ts";
import { Turns } from "../gate.ts";
import type { Store } from "../image.ts";
import { getU64, Limit, roundUp, setU64, viewOf } from "./layout.ts";
import { DirtySectors } from "./sectors.ts";
import type { Slice, TableCache } from "./table-cache.ts";

/** Clusters side by side in the store. */
export interface ClusterRun {
  offset: number;
  count: number;
}

export interface RefcountsOptions {
  store: Store;
  cache: TableCache;
  clusterSize: number;
  /** Refcounts have 2^order bits. */
  order: number;
  /** The table's content and place. */
  table: Uint8Array<ArrayBuffer>;
  tableOffset: number;
  /** How many of these clusters come before one that holds a table, and is never given out whatever its refcount says. */
  withoutTables: (first: number, count: number) => number;
  /** Puts a larger table in place of this one, for good, and answers when that is stored. */
  replaceTable: (table: Uint8Array<ArrayBuffer>, offset: number) => Promise<void>;
  /** A cluster holds a refcount block from now on. */
  blockMade: (cluster: number) => void;
}

export class Refcounts {
  readonly bits: number;
  readonly clusterSize: number;
  /** Clusters that one block counts. */
  readonly perBlock: number;
  readonly most: number;
  readonly dirtyTable: DirtySectors;
  tableOffset: number;
  readonly #with: RefcountsOptions;
  readonly #cache: TableCache;
  readonly #perSlice: number;
  #table: DataView;
  /** No cluster before this one is free. */
  #hint = 0;
  /** Behind this cluster nothing was given out since the image was opened. */
  #end = 0;
  /** The file's end, in clusters, when the image was opened. */
  readonly #foundEnd: number;
  readonly #turns = new Turns();

  constructor(options: RefcountsOptions) {
    this.#with = options;
    this.#cache = options.cache;
    this.bits = 2 ** options.order;
    this.clusterSize = options.clusterSize;
    this.perBlock = (options.clusterSize * 8) / this.bits;
    this.#perSlice = (this.#cache.sliceBytes * 8) / this.bits;
    this.most = this.bits >= 53 ? Number.MAX_SAFE_INTEGER : 2 ** this.bits - 1;
    this.#table = viewOf(options.table);
    this.#foundEnd = Math.ceil(options.store.sizeBytes / options.clusterSize);
    this.tableOffset = options.tableOffset;
    this.dirtyTable = new DirtySectors(options.table);
  }

  /** Entries of the table. */
  get blocks(): number {
    return this.#table.byteLength / 8;
  }

  get tableBytes(): number {
    return this.#table.byteLength;
  }

  /** Where the block is that counts this cluster; 0 where there is none. */
  blockOf(cluster: number): number {
    return this.blockAt(Math.floor(cluster / this.perBlock));
  }

  blockAt(index: number): number {
    if (index >= this.blocks) return 0;
    const offset = getU64(this.#table, index * 8);
    if (offset % this.clusterSize !== 0 || offset >= Limit.OFFSET) {
      throw new StorageError(
        "STORAGE_CORRUPT",
        `${this.#with.store.name}: entry ${index} of the refcount table is ${offset}, not a cluster's place`,
      );
    }
    return offset;
  }

  async get(cluster: number): Promise<number> {
    const block = this.blockOf(cluster);
    if (block === 0) return 0;
    const at = this.#sliceOffset(block, cluster);
    let slice = this.#cache.peek(at);
    for (; slice === undefined; slice = this.#cache.peek(at)) await this.#cache.load(at);
    return this.#value(slice, cluster % this.#perSlice);
  }

  /** Counts one more or one less; what cannot be is refused as corrupt. Returns the new count. */
  async add(cluster: number, difference: number): Promise<number> {
    let block = this.blockOf(cluster);
    while (block === 0) {
      if (difference < 0) throw this.#impossible(cluster, 0, difference);
      await this.#cover(cluster, 0);
      block = this.blockOf(cluster);
    }
    const at = this.#sliceOffset(block, cluster);
    let slice = this.#cache.peek(at);
    for (; slice === undefined; slice = this.#cache.peek(at)) await this.#cache.load(at);
    const value = this.#value(slice, cluster % this.#perSlice) + difference;
    if (value < 0 || value > this.most) throw this.#impossible(cluster, value - difference, difference);
    this.#set(slice, cluster % this.#perSlice, value);
    if (value === 0 && cluster < this.#hint) this.#hint = cluster;
    if (value > 0 && cluster >= this.#end) this.#end = cluster + 1;
    return value;
  }

  #impossible(cluster: number, value: number, difference: number): StorageError {
    return new StorageError(
      difference > 0 ? "STORAGE_IO" : "STORAGE_CORRUPT",
      `${this.#with.store.name}: the refcount of the cluster at ${cluster * this.clusterSize} is ${value}, and ` +
        `cannot be counted ${difference > 0 ? `up: it has ${this.bits} bits` : "down"}`,
    );
  }

  /** Takes free clusters that lie side by side: at least one, at most so many. They have the refcount 1. */
  async allocate(most: number): Promise<ClusterRun> {
    for (;;) {
      const found = this.#tryAllocate(most);
      if (found.missing === undefined) return found;
      await found.missing;
    }
  }

  /** Either a run, or what must happen before there can be one. */
  #tryAllocate(most: number): ClusterRun & { missing?: Promise<unknown> } {
    let first = -1;
    let count = 0;
    for (let cluster = this.#hint; count < most; ) {
      const block = this.blockOf(cluster);
      if (block === 0 && cluster < this.#foundEnd && count === 0) {
        // Nobody counted what is there, and it may be anything: it is left alone.
        cluster = Math.min(this.#foundEnd, (Math.floor(cluster / this.perBlock) + 1) * this.perBlock);
        continue;
      }
      const at = block === 0 ? 0 : this.#sliceOffset(block, cluster);
      const slice = block === 0 ? undefined : this.#cache.peek(at);
      if (slice === undefined) {
        if (count > 0) break;
        this.#hint = cluster;
        const missing = block === 0 ? this.#cover(cluster, 0) : this.#cache.load(at);
        return { offset: 0, count: 0, missing };
      }
      let index = cluster % this.#perSlice;
      if (first < 0) {
        for (; index < this.#perSlice && !this.#isFree(slice, index, cluster); index++) cluster += 1;
        if (index === this.#perSlice) continue;
        first = cluster;
      }
      const wanted = Math.min(this.#perSlice - index, most - count);
      let free = 0;
      while (free < wanted && this.#value(slice, index + free) === 0) free += 1;
      free = this.#with.withoutTables(cluster, free);
      for (let last = index + free; index < last; index++) this.#set(slice, index, 1);
      count += free;
      cluster += free;
      if (free < wanted) break;
    }
    this.#hint = first + count;
    this.#end = Math.max(this.#end, first + count);
    return { offset: first * this.clusterSize, count };
  }

  #isFree(slice: Slice, index: number, cluster: number): boolean {
    return this.#value(slice, index) === 0 && this.#with.withoutTables(cluster, 1) === 1;
  }

  /** Takes free clusters that lie side by side, all of them. */
  async allocateAll(count: number): Promise<number> {
    // What there is between used clusters is too short as a rule: whoever needs this wants a table.
    if (count === 1) return (await this.allocate(1)).offset;
    return this.#cover(-1, count);
  }

  /** Whether nothing was ever stored from this offset on, so that zeros are read there. */
  isFresh(offset: number): boolean {
    return offset >= Math.max(this.#end * this.clusterSize, this.#with.store.sizeBytes);
  }

  /** The end of what was given out and of what is stored. */
  get endBytes(): number {
    return Math.max(this.#end * this.clusterSize, this.#with.store.sizeBytes);
  }

  /**
   * Makes the block that counts `cluster`, where there is none; or with `count`, takes so many clusters at the image's
   * end (returns their offset) and makes all blocks that they need. New blocks and, if need be, a longer table follow
   * behind and are counted in the new blocks themselves ("Refcounts" of the specification lets a block count itself).
   */
  #cover(cluster: number, count: number): Promise<number> {
    return this.#turns.take(async () => {
      if (count === 0 && this.blockOf(cluster) !== 0) return 0;
      const behind = Math.ceil(this.endBytes / this.clusterSize);
      const between = count === 0 && cluster < this.blocks * this.perBlock && cluster >= this.#foundEnd;
      let first = between ? cluster : Math.max(cluster, behind);
      first = await this.#firstFree(first);
      const plan = this.#plan(first, Math.max(count, 0), count === 0 ? cluster : first);
      const { end, blocks, tableClusters } = plan;
      this.#end = Math.max(this.#end, end);
      const blocksAt = first + count;
      const { store, blockMade } = this.#with;
      if (blocks.length > 0) {
        await store.writeZeroes(blocksAt * this.clusterSize, blocks.length * this.clusterSize, true);
        this.#cache.forget(blocksAt * this.clusterSize, blocks.length * this.clusterSize);
      }
      const place = new Map(blocks.map((index, at) => [index, (blocksAt + at) * this.clusterSize]));
      for (let at = first; at < end; at++) {
        const index = Math.floor(at / this.perBlock);
        await this.#setAt(place.get(index) ?? this.blockAt(index), at, 1);
      }
      for (const index of blocks) {
        // The same for what a new block covers of the file as it was found: it is counted as used, never given out.
        for (let at = index * this.perBlock; at < Math.min(this.#foundEnd, (index + 1) * this.perBlock); at++) {
          await this.#setAt(place.get(index)!, at, 1);
        }
      }
      for (let at = 0; at < blocks.length; at++) blockMade(blocksAt + at);
      if (tableClusters > 0) await this.#grow(place, (end - tableClusters) * this.clusterSize, tableClusters);
      else for (const [index, offset] of place) this.#setBlock(index, offset);
      return first * this.clusterSize;
    });
  }

  /** Which blocks are missing for clusters from `first` on, and for themselves; and the size of the table they need. */
  #plan(first: number, count: number, covered: number): { end: number; blocks: number[]; tableClusters: number } {
    let blocks: number[] = [];
    let tableClusters = 0;
    for (;;) {
      const end = first + count + blocks.length + tableClusters;
      const missing = [];
      const last = Math.floor((Math.max(end, covered + 1) - 1) / this.perBlock);
      for (let index = Math.floor(Math.min(first, covered) / this.perBlock); index <= last; index++) {
        if (this.blockAt(index) === 0) missing.push(index);
      }
      let table = 0;
      if (last >= this.blocks) {
        const bytes = roundUp(Math.max(last + 1, Math.ceil(this.blocks * 1.5)) * 8, this.clusterSize);
        table = bytes / this.clusterSize;
        if (bytes > Limit.REFCOUNT_TABLE_BYTES && (last + 1) * 8 > Limit.REFCOUNT_TABLE_BYTES) {
          const bound = `${this.perBlock * this.clusterSize * (Limit.REFCOUNT_TABLE_BYTES / 8)} bytes`;
          throw new StorageError(
            "STORAGE_IO",
            `${this.#with.store.name} cannot grow beyond ${bound} with its clusters`,
          );
        }
        table = Math.min(table, Limit.REFCOUNT_TABLE_BYTES / this.clusterSize);
      }
      if (missing.length === blocks.length && table <= tableClusters) return { end, blocks: missing, tableClusters };
      blocks = missing;
      tableClusters = Math.max(table, tableClusters);
    }
  }

  /** Behind the store's end there may be clusters that are counted all the same. */
  async #firstFree(from: number): Promise<number> {
    for (let cluster = from, free = from; ; cluster++) {
      const block = this.blockOf(cluster);
      if (block === 0) return free;
      const at = this.#sliceOffset(block, cluster);
      let slice = this.#cache.peek(at);
      for (; slice === undefined; slice = this.#cache.peek(at)) await this.#cache.load(at);
      if (!this.#isFree(slice, cluster % this.#perSlice, cluster)) free = cluster + 1;
    }
  }

  async #grow(place: Map<number, number>, offset: number, clusters: number): Promise<void> {
    const table = new Uint8Array(clusters * this.clusterSize);
    const view = viewOf(table);
    table.set(new Uint8Array(this.#table.buffer, this.#table.byteOffset, this.#table.byteLength));
    for (const [index, block] of place) setU64(view, index * 8, block);
    await this.#with.replaceTable(table, offset);
  }

  /** The other half of {@link RefcountsOptions.replaceTable}: this table counts from now on. */
  useTable(table: Uint8Array<ArrayBuffer>, offset: number): void {
    this.#table = viewOf(table);
    this.tableOffset = offset;
    this.dirtyTable.replace(table);
  }

  #setBlock(index: number, offset: number): void {
    setU64(this.#table, index * 8, offset);
    this.dirtyTable.touch(index * 8);
  }

  /** The count of a cluster in a block that need not be the table's yet. */
  async #setAt(block: number, cluster: number, value: number): Promise<void> {
    const at = this.#sliceOffset(block, cluster);
    let slice = this.#cache.peek(at);
    for (; slice === undefined; slice = this.#cache.peek(at)) await this.#cache.load(at);
    this.#set(slice, cluster % this.#perSlice, value);
  }

  #sliceOffset(block: number, cluster: number): number {
    return block + Math.floor((cluster % this.perBlock) / this.#perSlice) * this.#cache.sliceBytes;
  }

  #value({ bytes, view }: Slice, index: number): number {
    switch (this.bits) {
      case 8:
        return bytes[index]!;
      case 16:
        return view.getUint16(index * 2);
      case 32:
        return view.getUint32(index * 4);
      case 64:
        return getU64(view, index * 8);
      default:
        // "Refcounts of less than 8 bits: the least significant bits hold the first".
        return (bytes[(index * this.bits) >> 3]! >> ((index * this.bits) & 7)) & (2 ** this.bits - 1);
    }
  }

  #set(slice: Slice, index: number, value: number): void {
    const { bytes, view } = slice;
    this.#cache.touch(slice);
    if (this.bits === 8) bytes[index] = value;
    else if (this.bits === 16) view.setUint16(index * 2, value);
    else if (this.bits === 32) view.setUint32(index * 4, value);
    else if (this.bits === 64) setU64(view, index * 8, value);
    else {
      const shift = (index * this.bits) & 7;
      const at = (index * this.bits) >> 3;
      bytes[at] = (bytes[at]! & ~((2 ** this.bits - 1) << shift)) | (value << shift);
    }
  }
}
