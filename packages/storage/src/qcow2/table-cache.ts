/** Tables of an image in memory: slices of L2 tables and refcount blocks, a bounded number of them. */

import { StorageError } from "../errors.ts";
import type { Store } from "../image.ts";
import { viewOf } from "./layout.ts";

/** A part of a table, in place of the whole: large clusters have large tables. */
const SLICE_BYTES = 4096;
/** Slices whose memory is one buffer. */
const SLAB_SLICES = 64;
/** The offset of a slice that has no content. */
const NOWHERE = -1;

/** A slice in memory. It holds something else after the next wait, unless it is dirty. */
export interface Slice {
  readonly offset: number;
  readonly bytes: Uint8Array<ArrayBuffer>;
  readonly view: DataView;
  /** Differs from what is stored. */
  dirty: boolean;
}

interface Place extends Slice {
  offset: number;
  /** Being written, by this many: not to be forgotten. */
  writing: number;
  /** Was looked at since the last search for one to forget. */
  used: boolean;
}

/** What a dirty slice was at one moment, to be stored. */
export interface SliceCopy {
  readonly slice: Slice;
  readonly offset: number;
  readonly bytes: Uint8Array;
}

/**
 * Memory is taken once and used again: buffers that were left to the garbage collector would pile up to as much as those
 * in use. So a slice is looked at and changed right after {@link TableCache.peek}, never across a wait.
 */
export class TableCache {
  readonly sliceBytes: number;
  /** How many slices stay, at least; those that are dirty stay in any case. */
  readonly capacity: number;
  dirtyCount = 0;
  readonly #store: Store;
  /** By number, which is the offset in slices. */
  readonly #slices = new Map<number, Place>();
  readonly #places: Place[] = [];
  /** Those of them that nothing is in, nor will be. */
  readonly #spare: Place[] = [];
  /** Where the search for a slice to forget goes on. */
  #hand = 0;
  /** How often something was forgotten: a read that began before may have what was there then. */
  #forgets = 0;
  /** A list, as they are few: a map that is filled and emptied all the time leaves tables that only a full collection finds. */
  readonly #loads: { number: number; done: Promise<void> }[] = [];

  constructor(store: Store, clusterSize: number, bytes: number) {
    this.#store = store;
    this.sliceBytes = Math.min(SLICE_BYTES, clusterSize);
    this.capacity = Math.max(SLAB_SLICES, Math.floor(bytes / this.sliceBytes));
  }

  /** The slice that begins at this offset of the store, if it is here. */
  peek(offset: number): Slice | undefined {
    const slice = this.#slices.get(offset / this.sliceBytes);
    if (slice !== undefined) slice.used = true;
    return slice;
  }

  /** Reads a slice, unless it is here. It may be gone again when its turn comes: peek, and load again if need be. */
  load(offset: number): Promise<void> {
    const number = offset / this.sliceBytes;
    for (const load of this.#loads) if (load.number === number) return load.done;
    if (this.#slices.has(number)) return Promise.resolve();
    const done = this.#read(offset);
    this.#loads.push({ number, done });
    return done;
  }

  async #read(offset: number): Promise<void> {
    const store = this.#store;
    const number = offset / this.sliceBytes;
    let place: Place | undefined;
    try {
      if (offset >= store.sizeBytes) {
        // Writing it later would make the file as long as some number in it says.
        throw new StorageError(
          "STORAGE_CORRUPT",
          `${store.name}: a table is said to be at ${offset}, behind the file's end`,
        );
      }
      place = this.#takePlace();
      let forgets: number;
      do {
        forgets = this.#forgets;
        await store.read(offset, [place.bytes]);
      } while (forgets !== this.#forgets);
      place.offset = offset;
      place.used = true;
      this.#slices.set(number, place);
    } catch (cause) {
      if (place !== undefined) this.#spare.push(place);
      // Nobody finds this read before it is entered.
      await undefined;
      throw cause;
    } finally {
      this.#loads.splice(
        this.#loads.findIndex((load) => load.number === number),
        1,
      );
    }
  }

  touch(slice: Slice): void {
    if (slice.dirty) return;
    slice.dirty = true;
    this.dirtyCount += 1;
  }

  /** What dirty slices hold, which are dirty no longer; the caller writes it, and says when that is done. */
  takeDirty(): SliceCopy[] {
    const taken: SliceCopy[] = [];
    for (const place of this.#places) {
      if (!place.dirty) continue;
      place.dirty = false;
      place.writing += 1;
      taken.push({ slice: place, offset: place.offset, bytes: place.bytes.slice() });
    }
    this.dirtyCount = 0;
    return taken.sort((a, b) => a.offset - b.offset);
  }

  /** The end of {@link takeDirty}: what was not written is dirty again. */
  giveBack(copies: readonly SliceCopy[], written: boolean): void {
    for (const { slice } of copies) {
      const place = slice as Place;
      place.writing -= 1;
      if (place.offset !== NOWHERE) {
        if (!written) this.touch(place);
      } else if (place.writing === 0) {
        this.#spare.push(place);
      }
    }
  }

  /** What was read of this range is out of date. */
  forget(offset: number, length: number): void {
    this.#forgets += 1;
    for (let at = offset; at < offset + length; at += this.sliceBytes) {
      const place = this.#slices.get(at / this.sliceBytes);
      if (place !== undefined) this.#empty(place);
    }
  }

  clear(): void {
    this.#forgets += 1;
    for (const place of this.#slices.values()) this.#empty(place);
  }

  #empty(place: Place): void {
    if (place.dirty) this.dirtyCount -= 1;
    place.dirty = false;
    this.#slices.delete(place.offset / this.sliceBytes);
    place.offset = NOWHERE;
    if (place.writing === 0) this.#spare.push(place);
  }

  /** Room for one more. */
  #takePlace(): Place {
    if (this.#spare.length === 0 && this.#places.length >= this.capacity) this.#forgetOne();
    if (this.#spare.length === 0) this.#addSlab();
    return this.#spare.pop()!;
  }

  /** Second chance: the next that nobody looked at since it was last asked goes. */
  #forgetOne(): void {
    for (let chances = 2 * this.#places.length; chances > 0; chances--) {
      const place = this.#places[this.#hand]!;
      this.#hand = (this.#hand + 1) % this.#places.length;
      if (place.offset === NOWHERE || place.dirty || place.writing > 0) continue;
      if (!place.used) {
        this.#empty(place);
        return;
      }
      place.used = false;
    }
  }

  #addSlab(): void {
    const slab = new ArrayBuffer(SLAB_SLICES * this.sliceBytes);
    for (let at = 0; at < slab.byteLength; at += this.sliceBytes) {
      const bytes = new Uint8Array(slab, at, this.sliceBytes);
      const place = { offset: NOWHERE, bytes, view: viewOf(bytes), dirty: false, writing: 0, used: false };
      this.#places.push(place);
      this.#spare.push(place);
    }
  }
}
