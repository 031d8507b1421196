/**
 * What every thread of this process knows of a machine: its slots' sizes, because the kernel writes as many bits into a
 * dirty bitmap as the slot has pages and asks nobody; and its vCPUs, because the machine outlives them.
 */

import { close, gettid } from "@lodge/linux";
import { KvmError } from "../errors.ts";
import { VCPU_WORDS, VcpuEntry } from "./vcpu-entry.ts";

/** More than a PC has DIMMs, ROMs and device memories. */
export const MAX_SLOTS = 512;
/** As many as 8-bit APIC ids tell apart. A machine has so many in its whole life: the kernel gives no id twice. */
const MAX_VCPUS = 256;

const PAGE = 4096;

/** Words of the shared record. */
const CLOSED = 0;
const DIRTY_RING_BYTES = 1;
/** How many vCPUs there have been. */
const VCPUS = 2;
/** Then the slots' sizes in pages: a word counts up to 16 TiB. */
const SLOTS = 4;
const ENTRIES = SLOTS + MAX_SLOTS;

export class SharedVmRecord {
  readonly buffer: SharedArrayBuffer;
  readonly #words: Uint32Array;

  constructor(buffer = new SharedArrayBuffer((ENTRIES + MAX_VCPUS * VCPU_WORDS) * 4)) {
    this.buffer = buffer;
    this.#words = new Uint32Array(buffer);
  }

  /** Takes in the vCPU `fd` of this thread; a machine that has had too many closes it. */
  newVcpu(fd: number): VcpuEntry {
    const index = Atomics.add(this.#words, VCPUS, 1);
    if (index >= MAX_VCPUS) {
      Atomics.store(this.#words, VCPUS, MAX_VCPUS);
      close(fd);
      throw new KvmError("KVM_INVALID", `a machine has at most ${MAX_VCPUS} vCPUs in its life`);
    }
    const entry = this.#entry(index);
    entry.opened(fd, gettid());
    return entry;
  }
  openVcpus(): VcpuEntry[] {
    const count = Atomics.load(this.#words, VCPUS);
    return Array.from({ length: count }, (_, index) => this.#entry(index)).filter((entry) => entry.isOpen);
  }
  #entry(index: number): VcpuEntry {
    return new VcpuEntry(this.buffer, (ENTRIES + index * VCPU_WORDS) * 4);
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
