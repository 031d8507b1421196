/**
 * The slow path of every guest memory access: what compiled code calls when its lookaside buffer misses, and how
 * microcode reaches memory. Nothing here throws: an access succeeds, faults (the exception is recorded in the vCPU's
 * state) or needs the monitor.
 *
 * Linear addresses are numbers: `f64.convert_i64_s` of the 64-bit address in WebAssembly. Every canonical address is
 * exact so, and one that is not canonical stays so.
 */

import { Mode, State, Tlb, Vector } from "../cpu/layout.ts";
import type { CpuState } from "../cpu/state.ts";
import { type MemoryMap, PAGE, SlotFlag } from "./memory-map.ts";
import type { Mmio } from "./mmio.ts";
import { cr4, efer, Intent } from "./paging.ts";
import { QuickRam } from "./quick-ram.ts";
import { type LookasideBuffers, TlbTable } from "./tlb.ts";
import { WALKED, type Walker } from "./walk.ts";
import type { Watchpoints } from "./watchpoints.ts";

/** What became of an access. */
export const Outcome = {
  OK: 0,
  /** An exception is recorded with `CpuState.raise`. */
  FAULT: 1,
  /** {@link Mmio.pending} holds a request for the monitor. */
  EXIT: 2,
} as const;
export type Outcome = (typeof Outcome)[keyof typeof Outcome];

/** How an access is made; bits. */
export const AccessKind = {
  /** A load whose operand is written next: checked and reported as a write. */
  WRITE: 1,
  /** By way of SS: an address that is not canonical is #SS instead of #GP. */
  STACK: 2,
  /** One half of a locked read-modify-write whose operand crosses what the host can do atomically. */
  LOCK: 4,
  /** The processor's own access to a descriptor table, TSS or inner stack: a supervisor's, whatever the CPL. */
  IMPLICIT: 8,
  /** A load that only faults as a masked store does: by its first byte, then by its last. */
  MASKED: 32,
  /** A load that only fills the lookaside buffers or faults, and reads nothing. */
  FILL: 16,
} as const;

const WRITE = AccessKind.WRITE;
const HIGH = 2 ** 32;
const HALF = 2 ** 47;

/** Instead of a place in linear memory. */
const FAULT = -1;
const HOLE = -2;

export interface AccessHooks {
  /** Bytes of a page that holds translated code were written. */
  codeWritten(linear: number, size: number): void;
}

export class Access {
  readonly tlb: LookasideBuffers;
  readonly walker: Walker;
  readonly mmio: Mmio;
  readonly watch: Watchpoints;
  /** The state's transfer field: what was loaded, or is to be stored. */
  readonly transfer: Uint8Array;
  readonly #state: CpuState;
  readonly #map: MemoryMap;
  readonly #hooks: AccessHooks;
  readonly #view: DataView;
  readonly #bytes: Uint8Array;
  readonly #transfer: number;
  /** After a {@link HOLE}: where the hole is. */
  #gpa = 0;
  #busLocked = false;
  readonly #ram: QuickRam;

  constructor(
    state: CpuState,
    map: MemoryMap,
    parts: { tlb: LookasideBuffers; walker: Walker; mmio: Mmio; watch: Watchpoints },
    hooks: AccessHooks,
  ) {
    this.#state = state;
    this.#map = map;
    this.tlb = parts.tlb;
    this.walker = parts.walker;
    this.mmio = parts.mmio;
    this.watch = parts.watch;
    this.#hooks = hooks;
    this.#ram = new QuickRam(state);
    this.#view = state.view;
    this.#bytes = new Uint8Array(state.view.buffer);
    this.#transfer = state.base + State.transfer;
    this.transfer = this.#bytes.subarray(this.#transfer, this.#transfer + 32);
  }

  /** Loads 1 to 32 bytes into the state's transfer field. */
  load(va: number, size: number, kind: number): Outcome {
    if (kind & AccessKind.LOCK && !this.#busLocked) {
      this.#map.lockBus();
      this.#busLocked = true;
    }
    const room = PAGE - (va & (PAGE - 1));
    if (va < HALF && va + size > HALF) {
      this.releaseLock();
      return this.#notCanonical(kind);
    }
    const first = this.#locate(va, kind, false);
    if (first === FAULT) return this.#faultedLoad();
    if (kind & AccessKind.FILL) return Outcome.OK;
    if (kind & AccessKind.MASKED) {
      return size > room && this.#locate(va + size - 1, kind, false) === FAULT ? Outcome.FAULT : Outcome.OK;
    }
    if (size <= room) {
      if (!this.#loadPart(first, this.#gpa, 0, size)) return Outcome.EXIT;
    } else {
      const firstGpa = this.#gpa;
      const second = this.#locate(this.#following(va, room, kind), kind, false);
      if (second === FAULT) return this.#faultedLoad();
      const secondGpa = this.#gpa;
      if (!this.#loadPart(first, firstGpa, 0, room)) return Outcome.EXIT;
      if (!this.#loadPart(second, secondGpa, room, size - room)) return Outcome.EXIT;
    }
    if (this.watch.active) this.watch.note(va, size, (kind & WRITE) !== 0);
    return Outcome.OK;
  }

  /** Stores 1 to 32 bytes from the state's transfer field. Nothing is written unless all of it can be. */
  store(va: number, size: number, kind: number): Outcome {
    const room = PAGE - (va & (PAGE - 1));
    if (va < HALF && va + size > HALF) return this.#notCanonical(kind);
    const first = this.#locate(va, kind | WRITE, true);
    if (first === FAULT) return Outcome.FAULT;
    if (size <= room) {
      if (!this.#storePart(first, this.#gpa, 0, size)) return Outcome.EXIT;
    } else {
      const firstGpa = this.#gpa;
      const second = this.#locate(this.#following(va, room, kind), kind | WRITE, true);
      if (second === FAULT) return Outcome.FAULT;
      const secondGpa = this.#gpa;
      if (!this.#storePart(first, firstGpa, 0, room)) return Outcome.EXIT;
      if (!this.#storePart(second, secondGpa, room, size - room)) return Outcome.EXIT;
    }
    if (kind & AccessKind.LOCK) this.releaseLock();
    if (this.watch.active) this.watch.note(va, size, true);
    return Outcome.OK;
  }

  /**
   * Where bytes lie in linear memory that may be read, or with `WRITE` written, without anybody hearing of it, after
   * {@link probe}; -1 where they have to be accessed one by one.
   */
  plain(va: number, size: number, kind: number): number {
    if ((va & (PAGE - 1)) + size > PAGE || this.watch.active) return -1;
    return this.tlb.lookup(this.#bank(kind), kind & WRITE ? TlbTable.WRITE : TlbTable.READ, va);
  }

  /** Checks that a range can be read, or with `WRITE` written, as if it were: faults as an access would. */
  probe(va: number, size: number, kind: number): boolean {
    let at = va;
    for (let left = size; left > 0; ) {
      if (this.#locate(at, kind, (kind & WRITE) !== 0) === FAULT) return false;
      const room = PAGE - (at & (PAGE - 1));
      left -= room;
      at = this.#following(at, room, kind);
    }
    return true;
  }

  /**
   * Where the byte of code at an address lies in linear memory: -1 with a fault recorded, -2 when no memory is there.
   * Fills no buffer.
   */
  fetch(va: number): number {
    const user = this.#state.cpl === 3;
    if (this.#state.get32(State.efer) & efer.LMA && (va >= HALF || va < -HALF)) {
      this.#state.raise(Vector.GP, 0);
      return FAULT;
    }
    const error = this.walker.walk(va, Intent.FETCH | (user ? Intent.USER : 0));
    if (error !== WALKED) return this.#pageFault(va, error);
    if (this.#isLocal(this.walker.gpa) || !this.#map.lookup(this.walker.gpa)) return HOLE;
    return this.#map.offset;
  }

  /** The guest physical address of a linear one as the guest's supervisor sees it, or -1. Changes nothing. */
  translate(va: number): number {
    if (this.#state.get32(State.efer) & efer.LMA && (va >= HALF || va < -HALF)) return -1;
    return this.walker.walk(va, Intent.SMAP_OPEN, true) === WALKED ? this.walker.gpa : -1;
  }

  /** 64-bit words of guest physical memory; undefined where nothing is. For what the processor keeps of it. */
  readPhysical64(gpa: number, count: number): (bigint | undefined)[] {
    return Array.from({ length: count }, (_, index) =>
      this.#map.lookup(gpa + index * 8) ? this.#view.getBigUint64(this.#map.offset, true) : undefined,
    );
  }

  /** Memory slots, or the page of the local APIC, are others by now. */
  memoryChanged(): void {
    this.#ram.clear();
  }

  /** After an instruction that was abandoned between the two halves of a locked access. */
  releaseLock(): void {
    if (!this.#busLocked) return;
    this.#busLocked = false;
    this.#map.unlockBus();
  }

  /** The view of memory that an access has: a bank of the lookaside buffers. */
  #bank(kind: number): number {
    if (kind & AccessKind.IMPLICIT) {
      return this.#state.get32(State.cr4) & cr4.SMAP ? Tlb.SUPERVISOR : Tlb.SUPERVISOR_AC;
    }
    return this.tlb.selected;
  }

  /** The address after a page's end: addresses of 32 bits wrap. */
  #following(va: number, room: number, kind: number): number {
    const next = va + room;
    const wide = kind & AccessKind.IMPLICIT ? this.#state.get32(State.efer) & efer.LMA : this.#is64Bit();
    return wide || next < HIGH ? next : next - HIGH;
  }

  #is64Bit(): boolean {
    return (this.#state.get32(State.mode) & Mode.BITS) === 2;
  }

  /**
   * Where an address lies in linear memory, or {@link FAULT}, or {@link HOLE} with the address in #gpa. Fills the
   * lookaside buffers. `store`: the bytes are about to be written, so that read-only memory is a hole.
   */
  #locate(va: number, kind: number, store: boolean): number {
    const write = (kind & WRITE) !== 0;
    const bank = this.#bank(kind);
    const hit = this.tlb.lookup(bank, write ? TlbTable.WRITE : TlbTable.READ, va);
    if (hit >= 0) return hit;
    if (this.#state.get32(State.efer) & efer.LMA && (va >= HALF || va < -HALF)) {
      this.#state.raise(kind & AccessKind.STACK ? Vector.SS : Vector.GP, 0);
      return FAULT;
    }
    const view = bank === Tlb.USER ? Intent.USER : bank === Tlb.SUPERVISOR_AC ? Intent.SMAP_OPEN : 0;
    const walker = this.walker;
    const error = walker.walk(va, view | (write ? Intent.WRITE : 0));
    if (error !== WALKED) return this.#pageFault(va, error);
    const gpa = walker.gpa;
    const map = this.#map;
    if (this.#isLocal(gpa) || !map.lookup(gpa)) {
      this.#gpa = gpa;
      return HOLE;
    }
    const linear = map.offset;
    const readOnly = (map.flags & SlotFlag.READ_ONLY) !== 0;
    if (this.watch.active && this.watch.covers(va)) {
      if (write && !readOnly) this.#markDirty();
    } else {
      const page = linear - (linear % PAGE);
      this.tlb.fill(bank, TlbTable.READ, va, page, walker.pageShift, walker.global);
      if (map.flags === 0) this.#ram.add(map.piece, this.mmio.localPage);
      if (!readOnly && walker.writable) {
        if (write) this.#markDirty();
        const index = page / PAGE;
        const unmarked = map.flags & SlotFlag.LOG_DIRTY && !map.dirty.has(map.dirtyPage);
        if (!unmarked && !map.code.has(index)) {
          this.tlb.fill(bank, TlbTable.WRITE, va, page, walker.pageShift, walker.global);
        }
      }
    }
    if (store && readOnly) {
      this.#gpa = gpa;
      return HOLE;
    }
    return linear;
  }

  #isLocal(gpa: number): boolean {
    return gpa - (gpa % PAGE) === this.mmio.localPage;
  }

  #markDirty(): void {
    if (this.#map.flags & SlotFlag.LOG_DIRTY) this.#map.markDirty(this.#map.dirtyPage);
  }

  /** There will be no store that ends a locked access. */
  #faultedLoad(): typeof Outcome.FAULT {
    this.releaseLock();
    return Outcome.FAULT;
  }

  /** An operand that reaches out of the canonical addresses faults before its first page is looked at. */
  #notCanonical(kind: number): typeof Outcome.FAULT {
    this.#state.raise(kind & AccessKind.STACK ? Vector.SS : Vector.GP, 0);
    return Outcome.FAULT;
  }

  #pageFault(va: number, error: number): typeof FAULT {
    this.#state.raisePageFault(error, va);
    return FAULT;
  }

  /** Loads what lies within one page to the transfer field from `to` on; false when the monitor has to be asked. */
  #loadPart(linear: number, gpa: number, to: number, size: number): boolean {
    const at = this.#transfer + to;
    if (linear !== HOLE) {
      this.#copy(linear, at, size);
      return true;
    }
    for (let done = 0; done < size; done += 8) {
      const piece = Math.min(8, size - done);
      const value = this.mmio.read(gpa + done, piece);
      if (value === undefined) return false;
      for (let index = 0; index < piece; index++) {
        this.#bytes[at + done + index] = Number((value >> BigInt(index * 8)) & 0xffn);
      }
    }
    return true;
  }

  #storePart(linear: number, gpa: number, from: number, size: number): boolean {
    const at = this.#transfer + from;
    if (linear !== HOLE) {
      this.#copy(at, linear, size);
      if (this.#map.code.has(Math.floor(linear / PAGE))) this.#hooks.codeWritten(linear, size);
      return true;
    }
    for (let done = 0; done < size; done += 8) {
      const piece = Math.min(8, size - done);
      let value = 0n;
      for (let index = piece - 1; index >= 0; index--) {
        value = (value << 8n) | BigInt(this.#bytes[at + done + index]!);
      }
      if (!this.mmio.write(gpa + done, piece, value)) return false;
    }
    return true;
  }

  /** Aligned pieces of up to 8 bytes are copied whole: other processors see all of one or nothing. */
  #copy(from: number, to: number, size: number): void {
    const view = this.#view;
    switch (size) {
      case 1:
        view.setUint8(to, view.getUint8(from));
        return;
      case 2:
        view.setUint16(to, view.getUint16(from, true), true);
        return;
      case 4:
        view.setUint32(to, view.getUint32(from, true), true);
        return;
      case 8:
        view.setBigUint64(to, view.getBigUint64(from, true), true);
        return;
      case 16:
      case 32:
        for (let done = 0; done < size; done += 8) {
          view.setBigUint64(to + done, view.getBigUint64(from + done, true), true);
        }
        return;
      default:
        for (let index = 0; index < size; index++) this.#bytes[to + index] = this.#bytes[from + index]!;
    }
  }
}
