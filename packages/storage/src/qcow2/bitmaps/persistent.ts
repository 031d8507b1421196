/**
 * The bitmaps that an image keeps ("Bitmaps extension"), while it is open to be written: read before the first change, in
 * use in the file from then on, and stored anew when the image is closed. What a cut leaves is in use, and worth nothing.
 */

import { type AddBitmapOptions, type DirtyBitmap, DirtyBitmaps, makeBitmap } from "../../bitmaps/dirty-bitmaps.ts";
import { DirtyBits } from "../../bitmaps/dirty-bits.ts";
import { StorageError } from "../../errors.ts";
import { Autoclear, Extension, getU64, setU64, viewOf } from "../layout.ts";
import type { Qcow2Image } from "../qcow2-image.ts";
import { readStored } from "../stored.ts";
import { type BitmapEntry, BitmapFlag, encodeBitmapDirectory, markInUse, readBitmapDirectory } from "./directory.ts";

/** Bytes of bits that are kept in memory for an image; bitmaps beyond that are not kept up to date. */
const MOST_BYTES = 128 << 20;
/** A table entry without a cluster says by this that all of its bits are set. */
const ALL_ONES = 1;

interface Clusters {
  first: number;
  count: number;
}

export class PersistentBitmaps {
  readonly #image: Qcow2Image;
  readonly #set = new DirtyBitmaps();
  #loading: Promise<void> | undefined;
  #loaded: boolean;
  /** Entries that stay as they are: whoever wrote last has not kept those, or they are too large for us. */
  #others: BitmapEntry[] = [];
  /** Where what will be stored anew is now. */
  #stored: Clusters[] = [];

  constructor(image: Qcow2Image) {
    this.#image = image;
    this.#loaded = (image.header.autoclear & Autoclear.BITMAPS) === 0n;
  }

  /** Whether {@link mark} knows all of them; else {@link load} comes first. */
  get loaded(): boolean {
    return this.#loaded;
  }

  get list(): readonly DirtyBitmap[] {
    return this.#set.list;
  }

  /** Those that are worth nothing and only wait to be removed. */
  get abandoned(): { name: string; granularity: number }[] {
    return this.#others.map(({ name, granularityBits }) => ({ name, granularity: 2 ** granularityBits }));
  }

  mark(offset: number, length: number): void {
    this.#set.mark(offset, length);
  }

  enable(bitmap: DirtyBitmap, enabled: boolean): void {
    this.#set.enable(bitmap, enabled);
  }

  /** The disk has another size. */
  resize(): void {
    this.#set.resize(this.#image.header.sizeBytes);
  }

  /** The disk is another one now: everything may differ from what it was. */
  replaced(): void {
    this.resize();
    this.mark(0, this.#image.header.sizeBytes);
  }

  /** Before anything changes. */
  load(): Promise<void> {
    this.#loading ??= this.#loaded ? Promise.resolve() : this.#load();
    return this.#loading;
  }

  /** A new one; `others` are all that the disk has. */
  add(name: string, options: AddBitmapOptions, others: readonly { readonly name: string }[]): void {
    const { name: where, header } = this.#image;
    if (header.version === 2) {
      throw new StorageError("STORAGE_OPEN", `${where}: version 2 of qcow2 keeps no bitmaps: take version 3`);
    }
    if (header.sizeBytes === 0) {
      throw new StorageError("STORAGE_OPEN", `${where}: an image of 0 bytes keeps no bitmaps: resize it first`);
    }
    this.#set.add(makeBitmap(where, name, header.sizeBytes, { ...options, persistent: true }, others));
  }

  remove(bitmap: DirtyBitmap): void {
    this.#set.remove(bitmap);
  }

  async removeAbandoned(name: string): Promise<void> {
    const gone = this.#others.find((entry) => entry.name === name);
    if (gone === undefined) return;
    this.#others = this.#others.filter((entry) => entry !== gone);
    this.#stored.push(...(await this.#clustersOf(gone)));
  }

  async #load(): Promise<void> {
    const { metadata, header } = this.#image;
    const directory = await readBitmapDirectory(metadata.store, header);
    if (directory !== undefined) {
      metadata.bitmapDirectory = { offset: directory.offset, length: directory.length };
      let left = MOST_BYTES;
      for (const entry of directory.entries) {
        const size = Math.ceil(header.sizeBytes / 2 ** entry.granularityBits / 8);
        const worth = !(entry.flags & BitmapFlag.IN_USE);
        const bits = worth && size <= left ? await this.#read(entry) : undefined;
        if (bits === undefined) {
          this.#others.push({ ...entry, flags: entry.flags | BitmapFlag.IN_USE });
          continue;
        }
        left -= size;
        this.#stored.push(...(await this.#clustersOf(entry)));
        const enabled = (entry.flags & BitmapFlag.AUTO) !== 0;
        this.#set.add({ name: entry.name, persistent: true, enabled, bits, busy: false });
      }
      if (directory.length > 0) this.#stored.push(this.#clusters(directory.offset, directory.length));
      if (!this.#image.readOnly) await markInUse(metadata.store, directory);
    }
    // Only now: others that write meanwhile must not be earlier.
    this.#loaded = true;
  }

  /** What is stored of one; undefined if that cannot be. */
  async #read(entry: BitmapEntry): Promise<DirtyBits | undefined> {
    const { metadata, header } = this.#image;
    const { clusterSize, store } = metadata;
    const bits = new DirtyBits(header.sizeBytes, 2 ** entry.granularityBits);
    if (entry.tableSize !== Math.ceil(bits.bytes.length / clusterSize)) return undefined;
    const table = await this.#table(entry);
    const bytes = new Uint8Array(clusterSize);
    for (let index = 0; index < entry.tableSize; index++) {
      const value = getU64(viewOf(table), index * 8);
      const offset = value - (value % 512);
      if (offset === 0 && value !== ALL_ONES) continue;
      if (offset !== 0) {
        const outside = offset % clusterSize !== 0 || offset >= store.sizeBytes;
        if (outside || metadata.isMetadata(offset / clusterSize)) return undefined;
        await readStored(store, offset, bytes.fill(0));
      } else {
        bytes.fill(255);
      }
      bits.load(bytes, index * clusterSize);
    }
    return bits;
  }

  async #table({ tableOffset, tableSize }: BitmapEntry): Promise<Uint8Array> {
    const table = new Uint8Array(tableSize * 8);
    await readStored(this.#image.metadata.store, tableOffset, table);
    return table;
  }

  /** What one holds, as far as it may be given up. */
  async #clustersOf(entry: BitmapEntry): Promise<Clusters[]> {
    const { metadata } = this.#image;
    const { clusterSize, store } = metadata;
    const view = viewOf(await this.#table(entry));
    const held = entry.tableSize === 0 ? [] : [this.#clusters(entry.tableOffset, entry.tableSize * 8)];
    for (let index = 0; index < entry.tableSize; index++) {
      const value = getU64(view, index * 8);
      const offset = value - (value % 512);
      if (offset !== 0) held.push({ first: offset / clusterSize, count: 1 });
    }
    const end = store.sizeBytes / clusterSize;
    return held.filter(
      ({ first, count }) => Number.isInteger(first) && first + count <= Math.ceil(end) && !metadata.isMetadata(first),
    );
  }

  #clusters(offset: number, length: number): Clusters {
    const { clusterSize } = this.#image.metadata;
    return { first: offset / clusterSize, count: Math.ceil(length / clusterSize) };
  }

  /** Stores all of them, before the image is closed: no request is at work, and the image is stored as it is. */
  async store(): Promise<void> {
    // What was not read has not changed; where there is and was nothing, nothing is to be done.
    if (!this.#loaded || (this.list.length === 0 && this.#stored.length === 0)) return;
    const { metadata, header } = this.#image;
    const entries = [...this.#others];
    // QEMU opens no image with a bitmap of nothing: one that was shrunk to nothing has none.
    const ofSomething = this.list.filter(({ bits }) => bits.bytes.length > 0);
    for (const bitmap of ofSomething) entries.push(await this.#write(bitmap));
    const directory = encodeBitmapDirectory(entries);
    const offset = entries.length === 0 ? 0 : await this.#put(directory);
    // Content and counts are lasting before the header leads there.
    await metadata.settle();
    header.extensions = header.extensions.filter(({ type }) => type !== Extension.BITMAPS);
    header.autoclear &= ~Autoclear.BITMAPS;
    if (entries.length > 0) {
      const data = new Uint8Array(24);
      viewOf(data).setUint32(0, entries.length);
      setU64(viewOf(data), 8, directory.length);
      setU64(viewOf(data), 16, offset);
      header.extensions.push({ type: Extension.BITMAPS, data });
      header.autoclear |= Autoclear.BITMAPS;
    }
    await metadata.writeHeader();
    metadata.bitmapDirectory = { offset, length: directory.length };
    for (const { first, count } of this.#stored) metadata.free(first, count);
    this.#stored = [];
    await metadata.settle();
  }

  async #write({ name, bits, enabled }: DirtyBitmap): Promise<BitmapEntry> {
    const { clusterSize, refcounts, store } = this.#image.metadata;
    const { bytes, granularity } = bits;
    const tableSize = Math.ceil(bytes.length / clusterSize);
    const table = new Uint8Array(tableSize * 8);
    for (let index = 0; index < tableSize; index++) {
      const part = bytes.subarray(index * clusterSize, (index + 1) * clusterSize);
      if (isAll(part, 0)) continue;
      if (part.length === clusterSize && isAll(part, 255)) {
        setU64(viewOf(table), index * 8, ALL_ONES);
        continue;
      }
      const { offset } = await refcounts.allocate(1);
      const whole = new Uint8Array(clusterSize);
      whole.set(part);
      await store.write(offset, [whole]);
      setU64(viewOf(table), index * 8, offset);
    }
    const tableOffset = await this.#put(table);
    const flags = enabled ? BitmapFlag.AUTO : 0;
    const granularityBits = Math.log2(granularity);
    return { name, at: 0, tableOffset, tableSize, flags, granularityBits, extra: new Uint8Array() };
  }

  /** Bytes in clusters of their own. */
  async #put(bytes: Uint8Array): Promise<number> {
    const { clusterSize, refcounts, store } = this.#image.metadata;
    const count = Math.ceil(bytes.length / clusterSize);
    const offset = await refcounts.allocateAll(count);
    const whole = new Uint8Array(count * clusterSize);
    whole.set(bytes);
    await store.write(offset, [whole]);
    return offset;
  }
}

function isAll(bytes: Uint8Array, value: number): boolean {
  return bytes.every((byte) => byte === value);
}
