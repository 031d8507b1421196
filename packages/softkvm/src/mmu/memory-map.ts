/**
 * Guest physical memory: which pieces of linear memory appear at which guest physical addresses. What no slot covers is
 * a hole: accesses to it are MMIO. The map lies in shared memory; each thread keeps its own sorted copy and renews it
 * when the generation has moved.
 *
 * A changed map is not yet in force: other vCPUs have lookaside buffers. Whoever changes slots, or takes dirty bits,
 * makes every vCPU flush (all, or its write entries) before it relies on the change.
 */

import { KvmError, type MemorySlot } from "@lodge/kvm";
import { CodeWrites } from "./code-writes.ts";
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
/** `dirty`: the slot's first bit in the dirty log. */
const Field = { guestAddress: 0, sizeBytes: 1, memoryOffset: 2, flags: 3, dirty: 4, count: 5 } as const;

/** The dirty log has room for slots that show the same memory so often. */
const LOGS = 4;

/** Flags of a piece of memory. */
export const SlotFlag = { READ_ONLY: 1, LOG_DIRTY: 2 } as const;

/** The handle that other threads make their own {@link MemoryMap} of; it can be posted. */
export interface MemoryMapHandle {
  readonly buffer: SharedArrayBuffer;
  /** Bytes of the guest's linear memory. */
  readonly sizeBytes: number;
  /** The bits of {@link MemoryMap.code}. Compiled code reads them where they lie in linear memory. */
  readonly code: Place;
}

/** Bytes in shared memory. */
interface Place {
  readonly buffer: ArrayBufferLike;
  readonly at: number;
}

/** A piece of guest physical memory that a slot shows. */
export interface Piece {
  readonly start: number;
  readonly end: number;
  /** What to add to a guest physical address to get the offset in linear memory. */
  readonly delta: number;
  readonly flags: number;
  /** What to add to a guest physical page number to get its bit in the dirty log. */
  readonly dirty: number;
}

const NOTHING: Piece = { start: 0, end: 0, delta: 0, flags: 0, dirty: 0 };

export class MemoryMap {
  readonly handle: MemoryMapHandle;
  /** Pages that were written, by slots that log: each has a range of bits of its own. */
  readonly dirty: PageBits;
  /** Pages of linear memory that hold translated code: stores to them take the slow path. The translator sets them. */
  readonly code: PageBits;
  /** Those of them that were written. */
  readonly codeWrites: CodeWrites;

  /** After a {@link lookup} that found something: the byte's offset in linear memory and its slot's {@link SlotFlag}s. */
  offset = 0;
  flags = 0;
  /** The page's bit in {@link dirty}, if its slot logs. */
  dirtyPage = 0;

  /** Told of each page of a slot that gets its mark: for the dirty ring of the vCPU that runs. */
  dirtied: ((slot: number, page: number) => void) | undefined;

  readonly #header: Int32Array;
  readonly #slots: Float64Array;
  #pieces: Piece[] = [];
  #last = NOTHING;
  #seen = -1;

  constructor(handle: MemoryMapHandle) {
    const { buffer, sizeBytes, code } = handle;
    this.handle = handle;
    const words = PageBits.wordsFor(sizeBytes / PAGE);
    this.#header = new Int32Array(buffer, 0, Header.words);
    this.#slots = new Float64Array(buffer, Header.words * 4, MAX_SLOTS * Field.count);
    const bitmaps = Header.words * 4 + MAX_SLOTS * Field.count * 8;
    this.code = new PageBits(new Int32Array(code.buffer, code.at, words));
    this.dirty = new PageBits(new Int32Array(buffer, bitmaps, words * LOGS));
    this.codeWrites = new CodeWrites(new Int32Array(buffer, bitmaps + words * 4 * LOGS, CodeWrites.words));
  }

  /**
   * The map of a new machine: no slots. `sizeBytes` of linear memory, from offset 0, are the guest's. `code`: where
   * {@link codeBytes} are for the bits of pages that hold code.
   */
  static create(sizeBytes: number, code?: Place): MemoryMap {
    const words = PageBits.wordsFor(sizeBytes / PAGE);
    const buffer = new SharedArrayBuffer(
      Header.words * 4 + MAX_SLOTS * Field.count * 8 + words * 4 * LOGS + CodeWrites.words * 4,
    );
    const place = code ?? { buffer: new SharedArrayBuffer(MemoryMap.codeBytes(sizeBytes)), at: 0 };
    return new MemoryMap({ buffer, sizeBytes, code: place });
  }
  static codeBytes(sizeBytes: number): number {
    return PageBits.wordsFor(sizeBytes / PAGE) * 4;
  }

  /** Moves with every change of the map. */
  get generation(): number {
    return Atomics.load(this.#header, Header.generation);
  }

  /** Adds a slot, or changes its place or flags. Turning the dirty log on begins with all pages or none dirty. */
  setSlot(slot: MemorySlot, initiallyDirty = false): void {
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
      const end = `0x${(memoryOffset + sizeBytes).toString(16)}`;
      const size = `0x${this.handle.sizeBytes.toString(16)}`;
      throw new KvmError("KVM_INVALID", `${subject}: it ends at ${end} of a memory of ${size} bytes`);
    }
    this.#change(() => {
      for (let other = 0; other < MAX_SLOTS; other++) {
        const at = other * Field.count;
        const size = this.#slots[at + Field.sizeBytes]!;
        const start = this.#slots[at + Field.guestAddress]!;
        if (other !== slot.slot && size > 0 && start < guestAddress + sizeBytes && guestAddress < start + size) {
          throw new KvmError("KVM_REQUEST_FAILED", `${subject}: it overlaps another slot (${other})`);
        }
      }
      const at = slot.slot * Field.count;
      const logged = this.#slots[at + Field.sizeBytes]! > 0 && this.#slots[at + Field.flags]! & SlotFlag.LOG_DIRTY;
      if (logDirtyPages && !logged) {
        const first = this.#room(subject, slot.slot, sizeBytes / PAGE);
        this.#slots[at + Field.dirty] = first;
        this.dirty.fill(first, sizeBytes / PAGE, initiallyDirty);
      }
      this.#slots[at + Field.guestAddress] = guestAddress;
      this.#slots[at + Field.sizeBytes] = sizeBytes;
      this.#slots[at + Field.memoryOffset] = memoryOffset;
      this.#slots[at + Field.flags] = (readOnly ? SlotFlag.READ_ONLY : 0) | (logDirtyPages ? SlotFlag.LOG_DIRTY : 0);
    });
  }

  deleteSlot(slot: number): void {
    if (this.slot(slot) === undefined)
      throw new KvmError("KVM_INVALID", `memory slot ${slot}: there is none to delete`);
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
    const count = this.#logging(slot, bitmap, 0, undefined).sizeBytes / PAGE;
    if (clear) this.dirty.take(this.#firstDirty(slot), count, bitmap);
    else this.dirty.read(this.#firstDirty(slot), count, bitmap);
  }

  /** Clears the marks of those pages of `firstPage` to `firstPage + pageCount - 1` that `bitmap` names. */
  clearDirty(slot: number, firstPage: number, pageCount: number, bitmap: Uint8Array): void {
    const end = this.#logging(slot, bitmap, firstPage, pageCount).sizeBytes / PAGE;
    if (firstPage % 64 !== 0 || (pageCount % 64 !== 0 && firstPage + pageCount !== end)) {
      throw new KvmError(
        "KVM_REQUEST_FAILED",
        `pages ${firstPage}+${pageCount} of slot ${slot}: first page and count are multiples of 64, unless the slot ends`,
      );
    }
    this.dirty.clearThose(this.#firstDirty(slot) + firstPage, pageCount, bitmap);
  }

  /** Marks a page that is written, by its bit as {@link lookup} gives it. */
  markDirty(bit: number): void {
    if (this.dirty.has(bit)) return;
    this.dirty.set(bit);
    if (this.dirtied === undefined) return;
    for (let slot = 0; slot < MAX_SLOTS; slot++) {
      const at = slot * Field.count;
      const page = bit - this.#slots[at + Field.dirty]!;
      if (!(this.#slots[at + Field.flags]! & SlotFlag.LOG_DIRTY)) continue;
      if (page >= 0 && page < this.#slots[at + Field.sizeBytes]! / PAGE) this.dirtied(slot, page);
    }
  }

  /** Clears one page's mark, if the slot still has it. */
  forgetDirty(slot: number, page: number): void {
    const found = this.slot(slot);
    if (found?.logDirtyPages && page < found.sizeBytes / PAGE) this.dirty.clear(this.#firstDirty(slot) + page);
  }

  /** Where a guest physical address lies: false for a hole, else {@link offset} and {@link flags}. */
  lookup(gpa: number): boolean {
    // Not atomic, as this is on every slow path: a change is in force when all vCPUs were told.
    if (this.#seen !== this.#header[Header.generation]) this.#renew();
    let piece = this.#last;
    if (gpa < piece.start || gpa >= piece.end) {
      piece = this.#find(gpa);
      if (piece === NOTHING) return false;
      this.#last = piece;
    }
    this.offset = gpa + piece.delta;
    this.flags = piece.flags;
    this.dirtyPage = Math.floor(gpa / PAGE) + piece.dirty;
    return true;
  }

  /** What the last {@link lookup} found lies in. */
  get piece(): Piece {
    return this.#last;
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
      const [start, size, offset, flags, firstDirty] = copy.subarray(at, at + Field.count) as unknown as number[];
      if (size === 0) continue;
      this.#pieces.push({
        start: start!,
        end: start! + size!,
        delta: offset! - start!,
        flags: flags!,
        dirty: firstDirty! - start! / PAGE,
      });
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

  #firstDirty(slot: number): number {
    return this.#slots[slot * Field.count + Field.dirty]!;
  }

  /** Bits of the dirty log that no other slot uses, from a multiple of 32 on. */
  #room(subject: string, own: number, pages: number): number {
    const taken: [number, number][] = [];
    for (let slot = 0; slot < MAX_SLOTS; slot++) {
      const at = slot * Field.count;
      if (slot === own || !(this.#slots[at + Field.flags]! & SlotFlag.LOG_DIRTY)) continue;
      taken.push([this.#slots[at + Field.dirty]!, this.#slots[at + Field.sizeBytes]! / PAGE]);
    }
    taken.sort(([a], [b]) => a - b);
    let first = 0;
    for (const [start, count] of taken) {
      if (start - first >= pages) break;
      first = Math.max(first, Math.ceil((start + count) / 32) * 32);
    }
    if (first + pages > PageBits.wordsFor(this.handle.sizeBytes / PAGE) * 32 * LOGS) {
      throw new KvmError("KVM_REQUEST_FAILED", `${subject}: too many slots log the same memory`);
    }
    return first;
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
    if (!found.logDirtyPages) {
      throw new KvmError(
        "KVM_REQUEST_FAILED",
        `memory slot ${slot}: it does not log dirty pages; set it with logDirtyPages`,
      );
    }
    if (!Number.isInteger(first) || !Number.isInteger(wanted) || first < 0 || wanted < 0 || first + wanted > pages) {
      throw new KvmError(
        "KVM_REQUEST_FAILED",
        `pages ${first}+${wanted} of slot ${slot}: they are within the slot, which has ${pages}`,
      );
    }
    // As the kernel's, in words of 64 bits.
    const needed = Math.ceil(wanted / 64) * 8;
    if (bitmap.length < needed) {
      throw new KvmError("KVM_INVALID", `${wanted} pages need a bitmap of ${needed} bytes, not ${bitmap.length}`);
    }
    return found;
  }
}
