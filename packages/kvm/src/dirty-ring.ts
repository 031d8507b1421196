/** A vCPU's ring of dirty pages (api.rst 8.29). */

import { readNumber64 } from "./layout/struct.ts";
import { DirtyGfn, DirtyGfnFlag } from "./layout/vm.ts";

export class DirtyRing {
  readonly #view: DataView;
  readonly #words: Uint32Array;
  readonly #entries: number;
  #next = 0;

  constructor(buffer: ArrayBufferLike) {
    this.#view = new DataView(buffer);
    this.#words = new Uint32Array(buffer);
    this.#entries = buffer.byteLength / DirtyGfn.size;
  }

  /**
   * Hands over the pages that were written, in order, and marks them harvested; returns how many, at most a ring full.
   * `slot` has the address space in its upper 16 bits; `page` counts from the slot's start. Call `Vm.resetDirtyRings`
   * before the pages' content is read, so that a write after that shows up again.
   */
  harvest(handle: (slot: number, page: number) => void): number {
    const at = DirtyGfn.offset;
    for (let count = 0; ; count++) {
      const offset = this.#next * DirtyGfn.size;
      const flags = offset / 4 + at.flags / 4;
      // The kernel publishes an entry by its flags, so they are loaded first; acquire and release as api.rst asks.
      if (Atomics.load(this.#words, flags) !== DirtyGfnFlag.DIRTY || count === this.#entries) return count;
      handle(this.#view.getUint32(offset + at.slot, true), readNumber64(this.#view, offset + at.offset));
      Atomics.store(this.#words, flags, DirtyGfnFlag.DIRTY | DirtyGfnFlag.RESET);
      this.#next = (this.#next + 1) % this.#entries;
    }
  }
}
