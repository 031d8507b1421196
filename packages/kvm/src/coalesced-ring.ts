/** The ring of coalesced writes (api.rst 4.116): the guest's side puts them in, the monitor takes them out in order. */

import { readNumber64, writeNumber64 } from "./layout/struct.ts";
import { CoalescedWrite } from "./layout/vm.ts";

/** `struct kvm_coalesced_mmio_ring`: u32 first, u32 last, then entries to the end of the page. */
const PAGE = 4096;
const PAGE_WORDS = PAGE / 4;
const FIRST = 0;
const LAST = 1;
/** Behind the entries the page has room for a word that the kernel does not use: the producers' lock. */
const LOCK = PAGE_WORDS - 1;
const ENTRIES = 8;

/** How many entries the page holds; one stays free to tell full from empty. */
export const COALESCED_RING_ENTRIES = Math.floor((PAGE - ENTRIES) / CoalescedWrite.size);

/** One write, valid while its handler runs. `low` is exact for up to 4 bytes. */
export interface CoalescedWriteEntry {
  bus: "pio" | "mmio";
  address: number;
  length: number;
  low: number;
  high: number;
}

export class CoalescedRing {
  readonly #view: DataView;
  readonly #indexes: Uint32Array;
  /** Reused for every entry, so that draining allocates nothing. */
  readonly #entry: CoalescedWriteEntry = { bus: "mmio", address: 0, length: 0, low: 0, high: 0 };

  /** `byteOffset`: where the ring's page begins in the buffer. */
  constructor(buffer: ArrayBufferLike, byteOffset: number) {
    this.#view = new DataView(buffer, byteOffset, PAGE);
    this.#indexes = new Uint32Array(buffer, byteOffset, PAGE / 4);
  }

  /**
   * Hands over the writes that wait, oldest first; returns how many: at most a ring full, so that a guest which goes on
   * writing from another vCPU holds nobody here. One vCPU's thread drains at a time.
   */
  drain(handle: (write: CoalescedWriteEntry) => void): number {
    const at = CoalescedWrite.offset;
    for (let count = 0; ; count++) {
      const first = Atomics.load(this.#indexes, FIRST) % COALESCED_RING_ENTRIES;
      const last = Atomics.load(this.#indexes, LAST) % COALESCED_RING_ENTRIES;
      if (first === last || count === COALESCED_RING_ENTRIES) return count;
      const offset = ENTRIES + first * CoalescedWrite.size;
      const entry = this.#entry;
      entry.bus = this.#view.getUint32(offset + at.pio, true) !== 0 ? "pio" : "mmio";
      entry.address = readNumber64(this.#view, offset + at.physAddr);
      entry.length = this.#view.getUint32(offset + at.len, true);
      const low = this.#view.getUint32(offset + at.data, true);
      // Bytes past the length are of an older write.
      entry.low = entry.length < 4 ? low & (2 ** (entry.length * 8) - 1) : low;
      entry.high = entry.length === 8 ? this.#view.getUint32(offset + at.data + 4, true) : 0;
      handle(entry);
      Atomics.store(this.#indexes, FIRST, (first + 1) % COALESCED_RING_ENTRIES);
    }
  }

  /**
   * The guest's side, for a hypervisor in software: puts a write in, from any vCPU's thread. False when the ring is
   * full, and the write has to be an exit.
   */
  push(bus: "pio" | "mmio", address: number, length: number, value: bigint): boolean {
    while (Atomics.compareExchange(this.#indexes, LOCK, 0, 1) !== 0);
    const last = Atomics.load(this.#indexes, LAST) % COALESCED_RING_ENTRIES;
    const next = (last + 1) % COALESCED_RING_ENTRIES;
    const fits = next !== Atomics.load(this.#indexes, FIRST) % COALESCED_RING_ENTRIES;
    if (fits) {
      const at = CoalescedWrite.offset;
      const offset = ENTRIES + last * CoalescedWrite.size;
      writeNumber64(this.#view, offset + at.physAddr, address);
      this.#view.setUint32(offset + at.len, length, true);
      this.#view.setUint32(offset + at.pio, bus === "pio" ? 1 : 0, true);
      this.#view.setBigUint64(offset + at.data, value, true);
      Atomics.store(this.#indexes, LAST, next);
    }
    Atomics.store(this.#indexes, LOCK, 0);
    return fits;
  }
}
