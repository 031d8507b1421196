/**
 * What every thread of this process knows of a machine: its slots' sizes, because the kernel writes as many bits into a
 * dirty bitmap as the slot has pages and asks nobody; and its vCPUs, because the machine outlives them. Behind that are the
 * places where the vCPUs' run pages are mapped.
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
const STATE = 0;
const DIRTY_RING_BYTES = 1;
/** How many vCPUs there have been. */
const VCPUS = 2;
/** Then the slots' sizes in pages: a word counts up to 16 TiB. */
const SLOTS = 4;
const ENTRIES = SLOTS + MAX_SLOTS;
/** Of a record: fresh memory is zeros. */
const State = { FREE: 0, OPEN: 1, CLOSED: 2 } as const;
const WORDS = ENTRIES + MAX_VCPUS * VCPU_WORDS;
/** Whole pages, because the run pages follow. */
const RECORD_BYTES = Math.ceil((WORDS * 4) / PAGE) * PAGE;

/** Where a record is. It may be posted to other threads. */
export interface RecordPlace {
  readonly buffer: SharedArrayBuffer;
  /** Where the buffer is in this process, which asking V8 for again takes a few microseconds. */
  readonly address: number;
  /** A multiple of the page size, as the buffer's own address is. */
  readonly byteOffset: number;
  /** What the kernel maps for a vCPU (KVM_GET_VCPU_MMAP_SIZE). */
  readonly runPageBytes: number;
}

/** Bytes of a record and its run pages. */
export function recordBytes(runPageBytes: number): number {
  return RECORD_BYTES + MAX_VCPUS * runPageBytes;
}

export class SharedVmRecord {
  readonly place: RecordPlace;
  readonly #words: Int32Array;

  constructor(place: RecordPlace) {
    this.place = place;
    this.#words = new Int32Array(place.buffer, place.byteOffset, WORDS);
  }

  /** Makes the record a machine's; false when it is, or was, another one's. */
  take(): boolean {
    return Atomics.compareExchange(this.#words, STATE, State.FREE, State.OPEN) === State.FREE;
  }

  /** Takes in the vCPU `fd` of this thread, and returns its index; a machine that has had too many closes it. */
  newVcpu(fd: number): number {
    const index = Atomics.add(this.#words, VCPUS, 1);
    if (index >= MAX_VCPUS) {
      Atomics.store(this.#words, VCPUS, MAX_VCPUS);
      close(fd);
      throw new KvmError("KVM_INVALID", `a machine has at most ${MAX_VCPUS} vCPUs in its life`);
    }
    this.entry(index).opened(fd, gettid());
    return index;
  }
  /** The vCPUs that are open, by their indexes. */
  openVcpus(): number[] {
    const count = Atomics.load(this.#words, VCPUS);
    return Array.from({ length: count }, (_, index) => index).filter((index) => this.entry(index).isOpen);
  }
  entry(index: number): VcpuEntry {
    return new VcpuEntry(this.#words, ENTRIES + index * VCPU_WORDS);
  }
  /** Where the vCPU's entry is, in bytes of the buffer. */
  entryOffset(index: number): number {
    return this.place.byteOffset + (ENTRIES + index * VCPU_WORDS) * 4;
  }
  /**
   * Where the vCPU's run page is, in bytes of the buffer. The first one is at the end: a mapping at the end of another one splits
   * it once, and one in the middle twice.
   */
  runPageOffset(index: number): number {
    const { byteOffset, runPageBytes } = this.place;
    return byteOffset + recordBytes(runPageBytes) - (index + 1) * runPageBytes;
  }

  get closed(): boolean {
    return Atomics.load(this.#words, STATE) !== State.OPEN;
  }
  markClosed(): void {
    Atomics.store(this.#words, STATE, State.CLOSED);
  }

  /** Bytes of each vCPU's dirty ring; 0 without rings. */
  get dirtyRingBytes(): number {
    return Atomics.load(this.#words, DIRTY_RING_BYTES) >>> 0;
  }
  set dirtyRingBytes(bytes: number) {
    Atomics.store(this.#words, DIRTY_RING_BYTES, bytes);
  }

  /** A slot's size in bytes; 0 for one that is not there. */
  slotSize(slot: number): number {
    return (Atomics.load(this.#words, SLOTS + checkSlot(slot)) >>> 0) * PAGE;
  }
  setSlotSize(slot: number, sizeBytes: number): void {
    Atomics.store(this.#words, SLOTS + checkSlot(slot), sizeBytes / PAGE);
  }
}

export function checkSlot(slot: number): number {
  if (Number.isInteger(slot) && slot >= 0 && slot < MAX_SLOTS) return slot;
  throw new KvmError("KVM_INVALID", `memory slot ${slot}: slots are 0 to ${MAX_SLOTS - 1}`);
}
