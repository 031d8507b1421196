/**
 * Rings of dirty pages (api.rst 8.29): each vCPU puts in the pages that it writes first since their last reset, the
 * monitor harvests them in order, and a reset of the machine's rings makes harvested pages be noticed anew.
 */

import { DirtyGfn, DirtyGfnFlag, KvmError, readNumber64, writeNumber64 } from "@lodge/kvm";

/** The kernel keeps so many entries free for what one exit may still write (KVM_DIRTY_RING_RSVD_ENTRIES). */
const RESERVED = 64;

/** A ring's producer and what has been reset: words of its header, counting entries since the beginning. */
const Header = { pushed: 0, reset: 1, words: 2 } as const;

export interface DirtyRingHandle {
  readonly entries: SharedArrayBuffer;
  readonly header: SharedArrayBuffer;
}

/** `bytes`: a power of two, and more than is kept free. */
export function createRing(bytes: number): DirtyRingHandle {
  const count = bytes / DirtyGfn.size;
  if (!Number.isInteger(Math.log2(bytes)) || count <= RESERVED) {
    throw new KvmError("KVM_INVALID", `dirty rings of ${bytes} bytes: a power of two, from 2048 on`);
  }
  return { entries: new SharedArrayBuffer(bytes), header: new SharedArrayBuffer(Header.words * 4) };
}

export class DirtyRingProducer {
  readonly #view: DataView;
  readonly #words: Int32Array;
  readonly #header: Int32Array;
  readonly #count: number;

  constructor({ entries, header }: DirtyRingHandle) {
    this.#view = new DataView(entries);
    this.#words = new Int32Array(entries);
    this.#header = new Int32Array(header);
    this.#count = entries.byteLength / DirtyGfn.size;
  }

  /** Whether the vCPU has to stop until the monitor has harvested and reset. */
  get isFull(): boolean {
    return this.#used >= this.#count - RESERVED;
  }

  /** Puts a page in. One exit writes fewer pages than are kept free, so there is always room. */
  push(slot: number, page: number): void {
    if (this.#used >= this.#count) throw new Error("the dirty ring ran over its reserve");
    const pushed = Atomics.load(this.#header, Header.pushed);
    const at = (pushed % this.#count) * DirtyGfn.size;
    this.#view.setUint32(at + DirtyGfn.offset.slot, slot, true);
    writeNumber64(this.#view, at + DirtyGfn.offset.offset, page);
    // The flags publish the entry.
    Atomics.store(this.#words, (at + DirtyGfn.offset.flags) / 4, DirtyGfnFlag.DIRTY);
    Atomics.store(this.#header, Header.pushed, (pushed + 1) >>> 0);
  }

  /** Takes back what was harvested, in order; returns how many pages. */
  reset(forget: (slot: number, page: number) => void): number {
    for (let count = 0; ; count++) {
      const done = Atomics.load(this.#header, Header.reset);
      const at = (done % this.#count) * DirtyGfn.size;
      const flags = (at + DirtyGfn.offset.flags) / 4;
      if (this.#used === 0 || !(Atomics.load(this.#words, flags) & DirtyGfnFlag.RESET)) return count;
      const slot = this.#view.getUint32(at + DirtyGfn.offset.slot, true);
      const page = readNumber64(this.#view, at + DirtyGfn.offset.offset);
      Atomics.store(this.#words, flags, 0);
      Atomics.store(this.#header, Header.reset, (done + 1) >>> 0);
      forget(slot, page);
    }
  }

  get #used(): number {
    return (Atomics.load(this.#header, Header.pushed) - Atomics.load(this.#header, Header.reset)) >>> 0;
  }
}
