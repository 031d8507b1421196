/**
 * A processor as microcode sees it: its state, memory as instructions reach it, and what the surroundings provide.
 *
 * Microcode checks first and changes last: until a function has returned, nothing that the guest could see in registers
 * has changed, and {@link GUEST_FAULT} or {@link GUEST_EXIT} may be thrown anywhere before.
 */

import { Mode, Seg, SegmentRange, State, Vector } from "../cpu/layout.ts";
import { type CpuState, Flag } from "../cpu/state.ts";
import { type Access, AccessKind, Outcome } from "../mmu/access.ts";
import type { Flushed } from "../mmu/tlb.ts";
import { Events } from "./event-state.ts";
import { GUEST_EXIT, GUEST_FAULT } from "./faults.ts";
import { type Cpuid, type Features, readFeatures } from "./features.ts";
import { segmentFault, updateMode } from "./mode.ts";
import { MsrState } from "./msr-state.ts";

/** What surrounds a processor. Hooks that cannot answer without the monitor throw {@link GUEST_EXIT}. */
export interface ProcessorHooks {
  cpuid: Cpuid;
  /** MSRs that microcode does not keep itself; undefined: there is none, which is #GP. */
  readMsr(index: number): bigint | undefined;
  /** False is #GP. */
  writeMsr(index: number, value: bigint): boolean;
  /** The guest's TSC, now. */
  readTsc(): bigint;
  writeTsc(value: bigint): void;
  /** CR8: the task priority, 0 to 15. */
  readTpr(): number;
  writeTpr(priority: number): void;
  readApicBase(): bigint;
  /** False is #GP. */
  writeApicBase(value: bigint): boolean;
  /**
   * A port that a device of this thread answers; undefined: the monitor does. `size` is 1, 2 or 4 bytes; `count` is of how many
   * elements this is the first.
   */
  readPort(port: number, size: number, count: number): number | undefined;
  writePort(port: number, size: number, value: number, count: number): boolean;
  /** 64 bits that nobody can guess. */
  random(): bigint;
  /** VMCALL, VMMCALL: rAX to rSI hold the call; false is #UD. */
  hypercall(): boolean;
  /** HLT or MWAIT: the processor sleeps after this instruction. */
  halt(): void;
  /** The third fault in a row. */
  tripleFault(): void;
  /** `State.mode` changed: code was decoded for another one. */
  modeChanged(): void;
  /** Translations of linear addresses were flushed. */
  translationsFlushed(flushed: Flushed): void;
  /**
   * Delivers an event by semantics/system/delivery.ts, to a handler that returns to the address in the state's field
   * `returnRip`. `error`: the error code, or -1. `resume`: the image of RFLAGS has RF set. False where that has not begun.
   */
  deliverQuickly(vector: number, error: number, returnRip: number, resume: boolean): boolean;
  /** IF, the TPR or the interrupt shadow changed so that an interrupt may be deliverable now. */
  interruptsMayFlow(): void;
}

export class Processor {
  readonly state: CpuState;
  readonly memory: Access;
  readonly hooks: ProcessorHooks;
  readonly msrs: MsrState;
  readonly events: Events;
  features: Features;

  /** 1 while an event is delivered that no instruction asked for: the EXT bit of error codes. */
  external: 0 | 1 = 0;

  constructor(state: CpuState, memory: Access, hooks: ProcessorHooks) {
    this.state = state;
    this.memory = memory;
    this.hooks = hooks;
    this.msrs = new MsrState(state);
    this.events = new Events(state);
    this.features = readFeatures(hooks.cpuid);
  }

  /** After the CPUID leaves changed. */
  updateFeatures(): void {
    this.features = readFeatures(this.hooks.cpuid);
    this.memory.walker.configure(this.features);
  }

  /** The instruction pointer of the running instruction and of the one after it: offsets in CS. */
  get instructionRip(): bigint {
    return this.state.get64(State.instructionRip);
  }
  set instructionRip(value: bigint) {
    this.state.set64(State.instructionRip, value);
  }
  get rip(): bigint {
    return this.state.get64(State.rip);
  }
  set rip(value: bigint) {
    this.state.set64(State.rip, value);
  }

  // Modes.

  get bits64(): boolean {
    return (this.state.get32(State.mode) & Mode.BITS) === 2;
  }
  get isProtected(): boolean {
    return (this.state.get32(State.mode) & Mode.PROTECTED) !== 0;
  }
  get vm86(): boolean {
    return (this.state.get32(State.mode) & Mode.VM86) !== 0;
  }
  /** Real-address mode or virtual-8086 mode: selectors are paragraphs. */
  get paragraphs(): boolean {
    return (this.state.get32(State.mode) & (Mode.PROTECTED | Mode.VM86)) !== Mode.PROTECTED;
  }
  get longMode(): boolean {
    return (this.state.get32(State.mode) & Mode.LONG) !== 0;
  }
  get cpl(): number {
    return this.state.cpl;
  }
  set cpl(level: number) {
    this.state.set32(State.cpl, level);
  }
  /** RFLAGS without the arithmetic flags: cheaper than all of them. */
  get systemFlags(): number {
    return this.state.get32(State.flagRest);
  }
  get iopl(): number {
    return (this.systemFlags & Flag.IOPL) >>> 12;
  }

  /** Derives everything that follows from control registers, flags and segments. */
  modeMayHaveChanged(): void {
    if (updateMode(this.state, this.memory.tlb)) this.hooks.modeChanged();
  }

  /** Interrupts wait until the next instruction is done. `shadow`: a member of `Shadow`. */
  holdEventsOff(shadow: number): void {
    this.state.set32(State.interruptShadow, shadow);
    this.state.set64(State.shadowRip, this.rip);
  }

  // Flushes of translations.

  flushAll(): void {
    this.memory.tlb.flushAll();
    this.hooks.translationsFlushed("all");
  }
  flushNonGlobal(): void {
    this.memory.tlb.flushNonGlobal();
    this.hooks.translationsFlushed("non-global");
  }
  flushPage(va: number): void {
    this.memory.tlb.flushPage(va);
    this.hooks.translationsFlushed(va);
  }

  // Faults.

  fault(vector: number, error = 0): never {
    this.state.raise(vector, error);
    throw GUEST_FAULT;
  }
  generalProtection(error = 0): never {
    return this.fault(Vector.GP, error);
  }
  undefinedInstruction(): never {
    return this.fault(Vector.UD);
  }
  /** For instructions of ring 0. */
  requireRing0(): void {
    if (this.cpl !== 0) this.generalProtection();
  }

  // Memory at linear addresses.

  read(va: number, size: 1 | 2 | 4, kind = 0): number {
    this.#succeed(this.memory.load(va, size, kind));
    const value = this.state.get32(State.transfer);
    return size === 4 ? value : value & (size === 2 ? 0xffff : 0xff);
  }
  read64(va: number, kind = 0): bigint {
    this.#succeed(this.memory.load(va, 8, kind));
    return this.state.get64(State.transfer);
  }
  /** Of 2, 4 or 8 bytes. */
  readSized(va: number, size: number, kind = 0): bigint {
    return size === 8 ? this.read64(va, kind) : BigInt(this.read(va, size as 1 | 2 | 4, kind));
  }
  write(va: number, size: 1 | 2 | 4, value: number, kind = 0): void {
    this.state.set32(State.transfer, value);
    this.#succeed(this.memory.store(va, size, kind));
  }
  write64(va: number, value: bigint, kind = 0): void {
    this.state.set64(State.transfer, value);
    this.#succeed(this.memory.store(va, 8, kind));
  }
  writeSized(va: number, size: number, value: bigint, kind = 0): void {
    this.state.set64(State.transfer, value);
    this.#succeed(this.memory.store(va, size, kind));
  }
  /** Loads to, or stores from, `memory.transfer`. */
  load(va: number, size: number, kind = 0): void {
    this.#succeed(this.memory.load(va, size, kind));
  }
  store(va: number, size: number, kind = 0): void {
    this.#succeed(this.memory.store(va, size, kind));
  }
  /** Faults as an access of the whole range would. */
  probe(va: number, size: number, kind = 0): void {
    if (!this.memory.probe(va, size, kind)) throw GUEST_FAULT;
  }

  /** The processor's own reads of tables: by a supervisor, whoever runs. Bases of 64 bits as {@link linear64} makes them. */
  readSystem(va: number, size: 1 | 2 | 4): number {
    return this.read(va, size, AccessKind.IMPLICIT);
  }
  readSystem64(va: number): bigint {
    return this.read64(va, AccessKind.IMPLICIT);
  }

  #succeed(outcome: Outcome): void {
    if (outcome === Outcome.OK) return;
    throw outcome === Outcome.FAULT ? GUEST_FAULT : GUEST_EXIT;
  }

  // Addresses.

  /** The linear address of `size` bytes at an offset in a segment, after the segment's checks. */
  linear(segment: number, offset: bigint, size: number, write: boolean): number {
    const base = this.state.get64(State.segmentBase + segment * 8);
    if (this.bits64) return linear64(base + offset);
    this.checkRange(segment, Number(offset), size, write);
    return Number(BigInt.asUintN(32, base + offset));
  }

  /** Faults unless a segment (outside 64-bit mode) has these offsets. */
  checkRange(segment: number, offset: number, size: number, write: boolean): void {
    if (this.inRange(segment, offset, size, write)) return;
    segmentFault(this.state, segment);
    throw GUEST_FAULT;
  }
  inRange(segment: number, offset: number, size: number, write: boolean): boolean {
    const range = State.segmentRanges + segment * SegmentRange.size;
    const first = this.state.get32(range + (write ? SegmentRange.writeFirst : SegmentRange.readFirst));
    const last = this.state.get32(range + (write ? SegmentRange.writeLast : SegmentRange.readLast));
    return offset >= first && offset + size - 1 <= last;
  }

  /** An address in the processor's own tables: of 64 bits in long mode, else of 32. */
  tableAddress(base: bigint, offset: number): number {
    const sum = base + BigInt(offset);
    return this.longMode ? linear64(sum) : Number(BigInt.asUintN(32, sum));
  }

  /** How many bytes of RSP count: 8, 4 or 2. */
  get stackWidth(): 2 | 4 | 8 {
    const mode = this.state.get32(State.mode);
    return (mode & Mode.BITS) === 2 ? 8 : mode & Mode.STACK_32 ? 4 : 2;
  }
}

/** A linear address of 64 bits as the number that stands for it: see mmu/access.ts. */
export function linear64(address: bigint): number {
  return Number(BigInt.asIntN(64, address));
}

/** Whether an address is canonical (Intel SDM vol. 1, 3.3.7.1). */
export function isCanonical(address: bigint): boolean {
  const signed = BigInt.asIntN(64, address);
  return signed === BigInt.asIntN(48, signed);
}

/** Segment accesses by way of SS fault differently. */
export function kindOf(segment: number): number {
  return segment === Seg.SS ? AccessKind.STACK : 0;
}
