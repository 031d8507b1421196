/**
 * What every thread of this process knows of a machine: its slots' sizes, because the kernel writes as many bits into a
 * dirty bitmap as the slot has pages and asks nobody; and how many vCPUs are open, because the machine outlives them.
 */

import { KvmError } from "../errors.ts";

/** More than a PC has DIMMs, ROMs and device memories. */
export const MAX_SLOTS = 1024;

const PAGE = 4096;

/** Words of the shared record. */
const OPEN_VCPUS = 0;
const CLOSED = 1;
const DIRTY_RING_BYTES = 2;
/** Then the slots' sizes in pages: a word counts up to 16 TiB. */
const SLOTS = 4;

export class SharedVmRecord {
  readonly buffer: SharedArrayBuffer;
  readonly #words: Uint32Array;

  constructor(buffer = new SharedArrayBuffer((SLOTS + MAX_SLOTS) * 4)) {
    this.buffer = buffer;
    this.#words = new Uint32Array(buffer);
  }

  get openVcpus(): number {
    return Atomics.load(this.#words, OPEN_VCPUS);
  }
  vcpuOpened(): void {
    Atomics.add(this.#words, OPEN_VCPUS, 1);
  }
  vcpuClosed(): void {
    Atomics.sub(this.#words, OPEN_VCPUS, 1);
  }

  get closed(): boolean {
    return Atomics.load(this.#words, CLOSED) !== 0;
  }
  markClosed(): void {
    Atomics.store(this.#words, CLOSED, 1);
  }

  /** Bytes of each vCPU's dirty ring; 0 without rings. */
  get dirtyRingBytes(): number {
    return Atomics.load(this.#words, DIRTY_RING_BYTES);
  }
  set dirtyRingBytes(bytes: number) {
    Atomics.store(this.#words, DIRTY_RING_BYTES, bytes);
  }

  /** A slot's size in bytes; 0 for one that is not there. */
  slotSize(slot: number): number {
    return Atomics.load(this.#words, SLOTS + checkSlot(slot)) * PAGE;
  }
  setSlotSize(slot: number, sizeBytes: number): void {
    Atomics.store(this.#words, SLOTS + checkSlot(slot), sizeBytes / PAGE);
  }
}

export function checkSlot(slot: number): number {
  if (Number.isInteger(slot) && slot >= 0 && slot < MAX_SLOTS) return slot;
  throw new KvmError("KVM_INVALID", `memory slot ${slot}: slots are 0 to ${MAX_SLOTS - 1}`);
}
