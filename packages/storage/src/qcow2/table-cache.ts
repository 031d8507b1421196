/** Tables of an image in memory: slices of L2 tables and refcount blocks, a bounded number of them. */

import { StorageError } from "../errors.ts";
import type { Store } from "../image.ts";
import { viewOf } from "./layout.ts";

/** A part of a table, in place of the whole: large clusters have large tables. */
const SLICE_BYTES = 4096;

export interface Slice {
  readonly offset: number;
  readonly bytes: Uint8Array<ArrayBuffer>;
  readonly view: DataView;
  /** Differs from what is stored. */
  dirty: boolean;
  /** Being written, by this many: not to be forgotten. */
  writing: number;
  /** Was looked at since the last search for one to forget. */
  used: boolean;
}

export class TableCache {
  readonly sliceBytes: number;
  /** How many slices stay, at least; those that are dirty stay in any case. */
  readonly capacity: number;
  dirtyCount = 0;
  readonly #store: Store;
  readonly #slices = new Map<number, Slice>();
  /** How often something was forgotten: a read that began before may have what was there then. */
  #forgets = 0;
  readonly #loading = new Map<number, Promise<Slice>>();

  constructor(store: Store, clusterSize: number, bytes: number) {
    this.#store = store;
    this.sliceBytes = Math.min(SLICE_BYTES, clusterSize);
    this.capacity = Math.max(64, Math.floor(bytes / this.sliceBytes));
  }

  /** The slice that begins at this offset of the store, if it is here. */
  peek(offset: number): Slice | undefined {
    const slice = this.#slices.get(offset);
    if (slice !== undefined) slice.used = true;
    return slice;
  }

  /** The same, read if need be. It may be gone again after the next wait. */
  async load(offset: number): Promise<Slice> {
    const here = this.peek(offset);
    if (here !== undefined) return here;
    let loading = this.#loading.get(offset);
    if (loading === undefined) {
      loading = this.#read(offset);
      this.#loading.set(offset, loading);
      loading.finally(() => this.#loading.delete(offset)).catch(() => {});
    }
    return loading;
  }

  async #read(offset: number): Promise<Slice> {
    const store = this.#store;
    if (offset >= store.sizeBytes) {
      // Writing it later would make the file as long as some number in it says.
      throw new StorageError(
        "STORAGE_CORRUPT",
        `${store.name}: a table is said to be at ${offset}, behind the file's end`,
      );
    }
    const bytes = new Uint8Array(this.sliceBytes);
    let forgets: number;
    do {
      forgets = this.#forgets;
      await store.read(offset, [bytes]);
    } while (forgets !== this.#forgets);
    const slice = { offset, bytes, view: viewOf(bytes), dirty: false, writing: 0, used: true };
    if (this.#slices.size >= this.capacity) this.#forgetOne();
    this.#slices.set(offset, slice);
    return slice;
  }

  touch(slice: Slice): void {
    if (slice.dirty) return;
    slice.dirty = true;
    this.dirtyCount += 1;
  }

  /** Dirty slices, which are dirty no longer; the caller writes them, and says when that is done. */
  takeDirty(): Slice[] {
    const taken = [];
    for (const slice of this.#slices.values()) {
      if (!slice.dirty) continue;
      slice.dirty = false;
      slice.writing += 1;
      taken.push(slice);
    }
    this.dirtyCount = 0;
    return taken;
  }

  /** The end of {@link takeDirty}: what was not written is dirty again. */
  giveBack(slices: readonly Slice[], written: boolean): void {
    for (const slice of slices) {
      slice.writing -= 1;
      if (!written) this.touch(slice);
    }
  }

  /** What was read of this range is out of date. */
  forget(offset: number, length: number): void {
    this.#forgets += 1;
    for (let at = offset; at < offset + length; at += this.sliceBytes) {
      const slice = this.#slices.get(at);
      if (slice === undefined) continue;
      if (slice.dirty) this.dirtyCount -= 1;
      slice.dirty = false;
      this.#slices.delete(at);
    }
  }

  clear(): void {
    this.#forgets += 1;
    this.#slices.clear();
    this.dirtyCount = 0;
  }

  /** Second chance: the oldest that nobody looked at since it was last asked goes. */
  #forgetOne(): void {
    let chances = 2 * this.#slices.size;
    for (const [offset, slice] of this.#slices) {
      this.#slices.delete(offset);
      if (!slice.used && !slice.dirty && slice.writing === 0) return;
      slice.used = false;
      this.#slices.set(offset, slice);
      chances -= 1;
      if (chances === 0) return;
    }
  }
}
