/** Where the guest's bytes are: the L1 table and the L2 tables below it ("Cluster mapping"). */

import { StorageError } from "../errors.ts";
import { Entry, Limit, setU64, viewOf } from "./layout.ts";
import { DirtySectors } from "./sectors.ts";
import type { Slice, TableCache } from "./table-cache.ts";

/** How guest bytes are held. */
export const Kind = {
  /** Not in this image: the backing image's, or zeros. */
  ABSENT: 0,
  /** The same, in a cluster that has room for them (extended L2 entries). */
  ROOM: 1,
  ZERO: 2,
  /** Zeros with room for other content. */
  ZERO_ROOM: 3,
  DATA: 4,
  COMPRESSED: 5,
} as const;
export type Kind = (typeof Kind)[keyof typeof Kind];

/** Guest bytes that are held alike and, where they have room, lie side by side in the store. */
export interface MappedRun {
  kind: Kind;
  length: number;
  /** Where the bytes or the room for them begins: with ROOM, ZERO_ROOM and DATA. */
  host: number;
  /** The room is this entry's alone, and may be written. */
  copied: boolean;
}

/** A compressed cluster's bytes in the store. */
export interface CompressedPlace {
  offset: number;
  length: number;
}

const SUBCLUSTERS = 32;

export class Mapping {
  readonly clusterSize: number;
  /** 8, or 16 with extended entries. */
  readonly entryBytes: 8 | 16;
  /** What one bit of an extended entry stands for; else a cluster. */
  readonly unit: number;
  /** Guest bytes below one L2 table. */
  readonly tableSpan: number;
  readonly dirty: DirtySectors;
  readonly name: string;
  readonly #cache: TableCache;
  #l1: DataView;
  readonly #perSlice: number;
  readonly #perTable: number;
  /** What {@link run} looks at next: one object for all of a run's entries, of which there may be thousands. */
  readonly #more: MappedRun = { kind: Kind.ABSENT, length: 0, host: 0, copied: false };
  /** A compressed entry's offset has so many bits ("Compressed Clusters Descriptor": 62 - (cluster_bits - 8)). */
  readonly #offsetBits: number;

  constructor(name: string, cache: TableCache, l1: Uint8Array<ArrayBuffer>, clusterSize: number, entryBytes: 8 | 16) {
    this.name = name;
    this.#cache = cache;
    this.clusterSize = clusterSize;
    this.entryBytes = entryBytes;
    this.unit = entryBytes === 16 ? clusterSize / SUBCLUSTERS : clusterSize;
    this.#perSlice = cache.sliceBytes / entryBytes;
    this.#perTable = clusterSize / entryBytes;
    this.tableSpan = this.#perTable * clusterSize;
    this.#offsetBits = 62 - (Math.log2(clusterSize) - 8);
    this.#l1 = viewOf(l1);
    this.dirty = new DirtySectors(l1);
  }

  /** Another L1 table, which is stored as it is. */
  useTable(l1: Uint8Array<ArrayBuffer>): void {
    this.#l1 = viewOf(l1);
    this.dirty.replace(l1);
  }

  get l1(): Uint8Array<ArrayBuffer> {
    return new Uint8Array(this.#l1.buffer as ArrayBuffer, this.#l1.byteOffset, this.#l1.byteLength);
  }

  /** Entries of the L1 table. */
  get tables(): number {
    return this.#l1.byteLength / 8;
  }

  /** Which L2 table is responsible for a guest offset. */
  tableIndex(offset: number): number {
    return Math.floor(offset / this.tableSpan);
  }

  /** An L2 table's place; 0 where there is none. */
  tableAt(index: number): number {
    if (index >= this.tables) return 0;
    const place = (this.#l1.getUint32(index * 8) & Entry.OFFSET_HIGH) * 2 ** 32 + withoutFlags(this.#l1, index * 8 + 4);
    if (place % this.clusterSize !== 0 || place >= Limit.OFFSET) {
      throw this.corrupt(`entry ${index} of the L1 table is ${place}, not a cluster's place`);
    }
    return place;
  }

  /** The L2 table is this image's alone, and may be written. */
  tableCopied(index: number): boolean {
    return this.#l1.getUint32(index * 8) >= Entry.COPIED;
  }

  setTable(index: number, offset: number, copied = true): void {
    setU64(this.#l1, index * 8, offset);
    if (copied) this.#l1.setUint32(index * 8, (offset / 2 ** 32) | Entry.COPIED);
    this.dirty.touch(index * 8);
  }

  /** Where the slice with a guest offset's entry begins; 0 where no table is. */
  sliceOffset(offset: number): number {
    const table = this.tableAt(this.tableIndex(offset));
    if (table === 0) return 0;
    const cluster = Math.floor(offset / this.clusterSize) % this.#perTable;
    return table + Math.floor(cluster / this.#perSlice) * this.#cache.sliceBytes;
  }

  /** Loads what {@link run} and the entries of this offset need. */
  load(offset: number): Promise<void> {
    const at = this.sliceOffset(offset);
    return at === 0 ? Promise.resolve() : this.#cache.load(at);
  }

  /** Up to where the slice of the table that has this offset goes. */
  sliceEnd(offset: number): number {
    const span = this.#perSlice * this.clusterSize;
    return offset - (offset % span) + span;
  }

  /** The first bytes of a range that are held alike; undefined where the table's slice is not in memory. */
  run(offset: number, length: number): MappedRun | undefined {
    const at = this.sliceOffset(offset);
    if (at === 0) {
      const left = this.tableSpan - (offset % this.tableSpan);
      return { kind: Kind.ABSENT, length: Math.min(length, left), host: 0, copied: false };
    }
    const slice = this.#cache.peek(at);
    if (slice === undefined) return undefined;
    const run: MappedRun = { kind: Kind.ABSENT, length: 0, host: 0, copied: false };
    this.#lookAt(slice, offset, run);
    // Up to the end of the slice.
    const end = Math.min(offset + length, this.sliceEnd(offset));
    let next = offset - (offset % this.unit) + this.unit;
    if (run.kind === Kind.COMPRESSED) {
      next = offset - (offset % this.clusterSize) + this.clusterSize;
    } else if (this.entryBytes === 8) {
      next += this.#alike(slice, this.entryAt(offset), Math.ceil((end - next) / this.unit)) * this.unit;
    } else {
      for (const more = this.#more; next < end; next += this.unit) {
        this.#lookAt(slice, next, more);
        const beside = run.host === 0 || more.host === run.host + (next - offset);
        if (more.kind !== run.kind || !beside || more.copied !== run.copied) break;
      }
    }
    run.length = Math.min(next, end) - offset;
    return run;
  }

  /** How many of the next entries, `most` at most, go on as the one at `at` does: the same, with the clusters that follow. */
  #alike({ view }: Slice, at: number, most: number): number {
    let high = view.getUint32(at);
    let low = view.getUint32(at + 4);
    const step = withoutFlags(view, at + 4) === 0 && (high & Entry.OFFSET_HIGH) === 0 ? 0 : this.clusterSize;
    let count = 0;
    while (count < most) {
      low += step;
      if (low >= 2 ** 32) {
        low -= 2 ** 32;
        high += 1;
      }
      at += 8;
      if (view.getUint32(at + 4) !== low || view.getUint32(at) !== high) break;
      count += 1;
    }
    return count;
  }

  /** The entry's place in its slice. */
  entryAt(offset: number): number {
    return (Math.floor(offset / this.clusterSize) % this.#perSlice) * this.entryBytes;
  }

  /** The slice of an offset's entry, if it is in memory. */
  slice(offset: number): Slice | undefined {
    const at = this.sliceOffset(offset);
    return at === 0 ? undefined : this.#cache.peek(at);
  }

  /** Says in `unit` what holds the byte at `offset`. */
  #lookAt({ view }: Slice, offset: number, unit: MappedRun): void {
    const at = this.entryAt(offset);
    const high = view.getUint32(at);
    const low = view.getUint32(at + 4);
    unit.host = 0;
    unit.copied = high >= Entry.COPIED;
    if ((high & Entry.COMPRESSED) !== 0) {
      unit.kind = Kind.COMPRESSED;
      return;
    }
    const cluster = (high & Entry.OFFSET_HIGH) * 2 ** 32 + low - (low & 0x1ff);
    if (cluster % this.clusterSize !== 0 || cluster >= Limit.OFFSET) {
      throw this.corrupt(`the L2 entry of guest offset ${offset} is ${cluster}, not a cluster's place`);
    }
    if (cluster !== 0) unit.host = cluster + (offset % this.clusterSize);
    if (this.entryBytes === 8) {
      if ((low & Entry.ZERO) !== 0) unit.kind = cluster === 0 ? Kind.ZERO : Kind.ZERO_ROOM;
      else unit.kind = cluster === 0 ? Kind.ABSENT : Kind.DATA;
      if (unit.kind === Kind.ABSENT) unit.copied = false;
      return;
    }
    const bit = 1 << Math.floor((offset % this.clusterSize) / this.unit);
    const zero = (view.getUint32(at + 8) & bit) !== 0;
    const stored = (view.getUint32(at + 12) & bit) !== 0;
    if (stored && (zero || cluster === 0)) {
      throw this.corrupt(`the L2 entry of guest offset ${offset} says of one subcluster that it is data and is not`);
    }
    if (stored) unit.kind = Kind.DATA;
    else if (zero) unit.kind = cluster === 0 ? Kind.ZERO : Kind.ZERO_ROOM;
    else unit.kind = cluster === 0 ? Kind.ABSENT : Kind.ROOM;
  }

  /** Where a compressed cluster's bytes are; its slice is in memory. */
  compressed(offset: number): CompressedPlace {
    const { view } = this.slice(offset)!;
    return this.compressedPlace(view, this.entryAt(offset));
  }

  compressedPlace(view: DataView, at: number): CompressedPlace {
    const high = view.getUint32(at) & 0x3fffffff;
    const low = view.getUint32(at + 4);
    // Both parts are cut out of 62 bits without passing 2^53: the offset's bits in the high half, then the rest.
    const inHigh = this.#offsetBits - 32;
    const sectors = Math.floor(high / 2 ** inHigh);
    const offset = (high % 2 ** inHigh) * 2 ** 32 + low;
    return { offset, length: (sectors + 1) * 512 - (offset % 512) };
  }

  /** The clusters of the store that an entry has a part in: where they begin, and how many. */
  holds(offset: number): { first: number; count: number; compressed: boolean } {
    const { view } = this.slice(offset)!;
    return this.holdsAt(view, this.entryAt(offset));
  }

  holdsAt(view: DataView, at: number): { first: number; count: number; compressed: boolean } {
    if ((view.getUint32(at) & Entry.COMPRESSED) !== 0) {
      const { offset, length } = this.compressedPlace(view, at);
      const first = Math.floor(offset / this.clusterSize);
      return { first, count: Math.floor((offset + length - 1) / this.clusterSize) - first + 1, compressed: true };
    }
    const cluster = (view.getUint32(at) & Entry.OFFSET_HIGH) * 2 ** 32 + withoutFlags(view, at + 4);
    return { first: cluster / this.clusterSize, count: cluster === 0 ? 0 : 1, compressed: false };
  }

  /** Writes an entry of compressed data. */
  setCompressed(offset: number, place: CompressedPlace): void {
    const slice = this.slice(offset)!;
    const at = this.entryAt(offset);
    const sectors = Math.floor((place.offset + place.length - 1) / 512) - Math.floor(place.offset / 512);
    const high = sectors * 2 ** (this.#offsetBits - 32) + Math.floor(place.offset / 2 ** 32);
    slice.view.setUint32(at, high + Entry.COMPRESSED);
    slice.view.setUint32(at + 4, place.offset);
    if (this.entryBytes === 16) setU64(slice.view, at + 8, 0);
    this.#cache.touch(slice);
  }

  /** Writes an entry: the cluster's place or 0, and what of it counts (extended: two masks; else `zeros` is 0 or all). */
  setEntry(offset: number, cluster: number, { zeros = 0, stored = 0 }: { zeros?: number; stored?: number } = {}): void {
    const slice = this.slice(offset)!;
    const at = this.entryAt(offset);
    setU64(slice.view, at, cluster);
    if (cluster !== 0) slice.view.setUint32(at, (cluster / 2 ** 32) | Entry.COPIED);
    if (this.entryBytes === 16) {
      slice.view.setUint32(at + 8, zeros);
      slice.view.setUint32(at + 12, stored);
    } else if (zeros !== 0) {
      slice.view.setUint32(at + 4, cluster | Entry.ZERO);
    }
    this.#cache.touch(slice);
  }

  /** The same for clusters side by side that hold data, from the one at `offset` on, in one slice. */
  setData(offset: number, cluster: number, count: number): void {
    if (this.entryBytes === 16) throw new Error("an extended entry has masks");
    const slice = this.slice(offset)!;
    const at = this.entryAt(offset);
    for (let index = 0; index < count; index++) {
      const place = cluster + index * this.clusterSize;
      slice.view.setUint32(at + index * 8, (place / 2 ** 32) | Entry.COPIED);
      slice.view.setUint32(at + index * 8 + 4, place);
    }
    this.#cache.touch(slice);
  }

  /** The masks of an extended entry. */
  masks(offset: number): { zeros: number; stored: number } {
    const { view } = this.slice(offset)!;
    const at = this.entryAt(offset);
    return { zeros: view.getUint32(at + 8), stored: view.getUint32(at + 12) };
  }

  /** The mask of the subclusters that a part of one cluster touches. */
  mask(offset: number, length: number): number {
    const first = Math.floor((offset % this.clusterSize) / this.unit);
    const last = Math.floor(((offset + length - 1) % this.clusterSize) / this.unit);
    return (((2 ** (last - first + 1) - 1) * 2 ** first) | 0) >>> 0;
  }

  corrupt(what: string): StorageError {
    return new StorageError("STORAGE_CORRUPT", `${this.name}: ${what}`);
  }
}

/** The low half of an entry without the bits below a sector. */
function withoutFlags(view: DataView, at: number): number {
  const low = view.getUint32(at);
  return low - (low & 0x1ff);
}
