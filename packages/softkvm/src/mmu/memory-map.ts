/**
 * Guest physical memory: which pieces of linear memory appear at which guest physical addresses. What no slot covers is
 * a hole: accesses to it are MMIO. The map lies in shared memory; each thread keeps its own sorted copy and renews it
 * when the generation has moved.
 *
 * A changed map is not yet in force: other vCPUs have lookaside buffers. Whoever changes slots, or takes dirty bits,
 * makes every vCPU flush (all, or its write entries) before it relies on the change.
 */

import { KvmError, type MemorySlot } from "@lodge/kvm";
import { PageBits } from "./page-bits.ts";

export const PAGE = 4096;

/** Slots of one machine. KVM has 32764; a PC uses some ten, one with hot-plugged memory some hundred. */
export const MAX_SLOTS = 1024;

/** The words at the start of the shared buffer. */
const Header = {
  /** 1 while a thread changes the map. */
  lock: 0,
  /** Odd during a change (a sequence lock): readers copy again until they saw an even, unchanged one. */
  generation: 1,
  /** 1 while a vCPU is inside a locked access that crosses a boundary: see {@link MemoryMap.lockBus}. */
  bus: 2,
  words: 16,
} as const;

/** A slot's record: float64 numbers, exact for every address. A slot of size 0 does not exist. */
const Field = { guestAddress: 0, sizeBytes: 1, memoryOffset: 2, flags: 3, count: 4 } as const;

/** Flags of a piece of memory. */
export const SlotFlag = { READ_ONLY: 1, LOG_DIRTY: 2 } as const;

/** The handle that other threads make their own {@link MemoryMap} of; it can be posted. */
export interface MemoryMapHandle {
  readonly buffer: SharedArrayBuffer;
  /** Bytes of the guest's linear memory. */
  readonly sizeBytes: number;
}

interface Piece {
  readonly start: number;
  readonly end: number;
  /** What to add to a guest physical address to get the offset in linear memory. */
  readonly delta: number;
  readonly flags: number;
}

const NOTHING: Piece = { start: 0, end: 0, delta: 0, flags: 0 };

export class MemoryMap {
  readonly handle: MemoryMapHandle;
  /** Pages of linear memory that were written through a slot that logs. */
  readonly dirty: PageBits;
  /** Pages of linear memory that hold translated code: stores to them take the slow path. The translator sets them. */
  readonly code: PageBits;

  /** After a {@link lookup} that found something: the byte's offset in linear memory and its slot's {@link SlotFlag}s. */
  offset = 0;
  flags = 0;

  readonly #header: Int32Array;
  readonly #slots: Float64Array;
  #pieces: Piece[] = [];
  #last = NOTHING;
  #seen = -1;

  constructor(handle: MemoryMapHandle) {
    const { buffer, sizeBytes } = handle;
    this.handle = handle;
    const words = PageBits.wordsFor(sizeBytes / PAGE);
    this.#header = new Int32Array(buffer, 0, Header.words);
    this.#slots = new Float64Array(buffer, Header.words * 4, MAX_SLOTS * Field.count);
    const bitmaps = Header.words * 4 + MAX_SLOTS * Field.count * 8;
    this.dirty = new PageBits(new Int32Array(buffer, bitmaps, words));
    this.code = new PageBits(new Int32Array(buffer, bitmaps + words * 4, words));
  }

  /** The map of a new machine: no slots. `sizeBytes` of linear memory, from offset 0, are the guest's. */
  static create(sizeBytes: number): MemoryMap {
    const words = PageBits.wordsFor(sizeBytes / PAGE);
    const buffer = new SharedArrayBuffer(Header.words * 4 + MAX_SLOTS * Field.count * 8 + words * 8);
    return new MemoryMap({ buffer, sizeBytes });
  }

  /** Moves with every change of the map. */
  get generation(): number {
    return Atomics.load(this.#header, Header.generation);
  }

  /** Adds a slot, or changes its place or flags. Turning the dirty log on begins with no page dirty. */
  setSlot(slot: MemorySlot): void {
    const { guestAddress, sizeBytes, memoryOffset, readOnly = false, logDirtyPages = false } = slot;
    const subject = `memory slot ${this.#check(slot.slot)} (0x${sizeBytes.toString(16)} bytes at 0x${guestAddress.toString(16)})`;
    const aligned = (value: number) => Number.isSafeInteger(value) && value >= 0 && value % PAGE === 0;
    if (!aligned(guestAddress) || !aligned(sizeBytes) || !aligned(memoryOffset) || sizeBytes === 0) {
      throw new KvmError("KVM_INVALID", `${subject}: addresses and sizes are multiples of 4 KiB`);
    }
    if (guestAddress + sizeBytes > 2 ** 52) {
      throw new KvmError("KVM_INVALID", `${subject}: guest physical addresses have 52 bits`);
    }
    if (memoryOffset + sizeBytes > this.handle.sizeBytes) {
      throw new KvmError("KVM_INVALID", `${subject}: it ends beyond the machine's memory`);
    }
    this.#change(() => {
      for (let other = 0; other < MAX_SLOTS; other++) {
        const at = other * Field.count;
        const size = this.#slots[at + Field.sizeBytes]!;
        const start = this.#slots[at + Field.guestAddress]!;
        if (other !== slot.slot && size > 0 && start < guestAddress + sizeBytes && guestAddress < start + size) {
          throw new KvmError("KVM_INVALID", `${subject}: it overlaps slot ${other}`);
        }
      }
      const at = slot.slot * Field.count;
      const logged = this.#slots[at + Field.sizeBytes]! > 0 && this.#slots[at + Field.flags]! & SlotFlag.LOG_DIRTY;
      if (logDirtyPages && !logged) this.dirty.fill(memoryOffset / PAGE, sizeBytes / PAGE, false);
      this.#slots[at + Field.guestAddress] = guestAddress;
      this.#slots[at + Field.sizeBytes] = sizeBytes;
      this.#slots[at + Field.memoryOffset] = memoryOffset;
      this.#slots[at + Field.flags] = (readOnly ? SlotFlag.READ_ONLY : 0) | (logDirtyPages ? SlotFlag.LOG_DIRTY : 0);
    });
  }

  deleteSlot(slot: number): void {
    this.#existing(slot);
    this.#change(() => {
      this.#slots.fill(0, slot * Field.count, (slot + 1) * Field.count);
    });
  }

  /** A slot as it was set; undefined when there is none. */
  slot(slot: number): Required<MemorySlot> | undefined {
    const [guestAddress, sizeBytes, memoryOffset, flags] = this.#slots.subarray(
      this.#check(slot) * Field.count,
      (slot + 1) * Field.count,
    );
    if (sizeBytes === 0) return undefined;
    return {
      slot,
      guestAddress: guestAddress!,
      sizeBytes: sizeBytes!,
      memoryOffset: memoryOffset!,
      readOnly: (flags! & SlotFlag.READ_ONLY) !== 0,
      logDirtyPages: (flags! & SlotFlag.LOG_DIRTY) !== 0,
    };
  }

  /**
   * Which pages of a slot were written; `clear` begins anew. Two slots that show the same linear memory share its bits:
   * what is taken through one is not seen through the other.
   */
  readDirty(slot: number, bitmap: Uint8Array, clear: boolean): void {
    const { memoryOffset, sizeBytes } = this.#logging(slot, bitmap, 0, undefined);
    const count = sizeBytes / PAGE;
    if (clear) this.dirty.take(memoryOffset / PAGE, count, bitmap);
    else this.dirty.read(memoryOffset / PAGE, count, bitmap);
  }

  /** Clears the marks of those pages of `firstPage` to `firstPage + pageCount - 1` that `bitmap` names. */
  clearDirty(slot: number, firstPage: number, pageCount: number, bitmap: Uint8Array): void {
    const { memoryOffset } = this.#logging(slot, bitmap, firstPage, pageCount);
    this.dirty.clearThose(memoryOffset / PAGE + firstPage, pageCount, bitmap);
  }

  /** Where a guest physical address lies: false for a hole, else {@link offset} and {@link flags}. */
  lookup(gpa: number): boolean {
    if (this.#seen !== Atomics.load(this.#header, Header.generation)) this.#renew();
    let piece = this.#last;
    if (gpa < piece.start || gpa >= piece.end) {
      piece = this.#find(gpa);
      if (piece === NOTHING) return false;
      this.#last = piece;
    }
    this.offset = gpa + piece.delta;
    this.flags = piece.flags;
    return true;
  }

  /**
   * Keeps other vCPUs' split locked accesses out. Aligned locked instructions are atomic by themselves and do not ask
   * here, so a split one is atomic against other split ones only.
   */
  lockBus(): void {
    while (Atomics.compareExchange(this.#header, Header.bus, 0, 1) !== 0);
  }
  unlockBus(): void {
    Atomics.store(this.#header, Header.bus, 0);
  }

  #find(gpa: number): Piece {
    let low = 0;
    let high = this.#pieces.length;
    while (low < high) {
      const middle = (low + high) >>> 1;
      const piece = this.#pieces[middle]!;
      if (gpa < piece.start) high = middle;
      else if (gpa >= piece.end) low = middle + 1;
      else return piece;
    }
    return NOTHING;
  }

  #renew(): void {
    let copy: Float64Array;
    for (;;) {
      const generation = Atomics.load(this.#header, Header.generation);
      if (generation & 1) continue;
      copy = this.#slots.slice();
      this.#seen = generation;
      if (Atomics.load(this.#header, Header.generation) === generation) break;
    }
    this.#last = NOTHING;
    this.#pieces = [];
    for (let at = 0; at < copy.length; at += Field.count) {
      const [start, size, offset, flags] = copy.subarray(at, at + Field.count);
      if (size! > 0) this.#pieces.push({ start: start!, end: start! + size!, delta: offset! - start!, flags: flags! });
    }
    this.#pieces.sort((one, other) => one.start - other.start);
  }

  #change(body: () => void): void {
    // Changes are rare and short; a browser's main thread may not wait otherwise.
    while (Atomics.compareExchange(this.#header, Header.lock, 0, 1) !== 0);
    Atomics.add(this.#header, Header.generation, 1);
    try {
      body();
    } finally {
      Atomics.add(this.#header, Header.generation, 1);
      Atomics.store(this.#header, Header.lock, 0);
    }
  }

  #check(slot: number): number {
    if (Number.isInteger(slot) && slot >= 0 && slot < MAX_SLOTS) return slot;
    throw new KvmError("KVM_INVALID", `memory slot ${slot}: slots are 0 to ${MAX_SLOTS - 1}`);
  }

  #existing(slot: number): Required<MemorySlot> {
    const found = this.slot(slot);
    if (found === undefined) throw new KvmError("KVM_INVALID", `memory slot ${slot}: there is none`);
    return found;
  }

  #logging(slot: number, bitmap: Uint8Array, first: number, count: number | undefined): Required<MemorySlot> {
    const found = this.#existing(slot);
    const pages = found.sizeBytes / PAGE;
    const wanted = count ?? pages;
    if (!found.logDirtyPages) throw new KvmError("KVM_INVALID", `memory slot ${slot}: it logs no dirty pages`);
    if (!Number.isInteger(first) || !Number.isInteger(wanted) || first < 0 || wanted < 0 || first + wanted > pages) {
      throw new KvmError("KVM_INVALID", `memory slot ${slot}: pages ${first} to ${first + wanted - 1} of ${pages}`);
    }
    if (bitmap.length * 8 < wanted) {
      throw new KvmError("KVM_INVALID", `memory slot ${slot}: a bitmap of ${bitmap.length} bytes for ${wanted} pages`);
    }
    return found;
  }
}
