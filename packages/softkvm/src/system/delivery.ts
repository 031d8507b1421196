/**
 * Delivery of one exception or interrupt through the interrupt vector table or the IDT (Intel SDM vol. 3, 6.8 to 6.14;
 * real mode 22.1.4; virtual-8086 22.3). Throws when the delivery itself faults; see exceptions.ts for what follows.
 */

import { Seg, State, Vector } from "../cpu/layout.ts";
import { Flag } from "../cpu/state.ts";
import { isNull, type Located, markAccessed, readDescriptor, selectorError } from "./descriptors.ts";
import { isCanonical, type Processor } from "./processor.ts";
import {
  Descriptor,
  SelectorBits,
  SystemType,
  selectorOf,
  setFromDescriptor,
  setNull,
  setReal,
} from "./segment-registers.ts";
import { Stack } from "./stack.ts";
import { switchTask } from "./task-switch.ts";
import { innerPointer, innerStack } from "./tss.ts";

export interface Event {
  readonly vector: number;
  /** Pushed where the mode and gate have room for it. */
  readonly error: number | undefined;
  /** Where the handler returns to. */
  readonly returnRip: bigint;
  /** INT n, INT3, INTO: the gate's privilege is checked, and faults say that the program asked for it. */
  readonly soft: boolean;
  /** The pushed RFLAGS has RF set: the event is a fault, and the instruction runs again. */
  readonly resume: boolean;
}

export function deliverOnce(cpu: Processor, event: Event): void {
  cpu.external = event.soft ? 0 : 1;
  try {
    if (!cpu.isProtected) deliverReal(cpu, event);
    else if (cpu.longMode) deliverLong(cpu, event);
    else deliverProtected(cpu, event);
  } finally {
    cpu.external = 0;
  }
}

function pushedFlags(cpu: Processor, event: Event): number {
  const flags = cpu.state.rflags;
  return event.resume ? flags | Flag.RF : flags;
}

/** Clears what a handler starts without; IF only where the gate masks interrupts. */
function enterHandler(cpu: Processor, cleared: number): void {
  cpu.state.set32(State.flagRest, cpu.systemFlags & ~cleared);
  cpu.state.set32(State.interruptShadow, 0);
  cpu.modeMayHaveChanged();
}

function deliverReal(cpu: Processor, event: Event): void {
  const { state } = cpu;
  const entry = event.vector * 4;
  if (entry + 3 > state.get32(State.idtLimit)) cpu.generalProtection();
  const table = cpu.tableAddress(state.get64(State.idtBase), entry);
  const ip = cpu.readSystem(table, 2);
  const cs = cpu.readSystem(table + 2, 2);
  const stack = new Stack(cpu);
  stack.push(2, BigInt(pushedFlags(cpu, event) & 0xffff));
  stack.push(2, BigInt(selectorOf(state, Seg.CS)));
  stack.push(2, event.returnRip & 0xffffn);
  stack.commit();
  setReal(state, Seg.CS, cs);
  cpu.rip = BigInt(ip);
  enterHandler(cpu, Flag.IF | Flag.TF | Flag.AC | Flag.RF);
}

/** An IDT entry's error code: its index, the IDT bit, and EXT. */
function gateError(cpu: Processor, vector: number): number {
  return vector * 8 + 2 + cpu.external;
}

/** Reads and checks an IDT entry; `size` is 8, or 16 in long mode. */
function readGate(cpu: Processor, event: Event, size: 8 | 16): Descriptor {
  const { state } = cpu;
  const offset = event.vector * size;
  const refuse = (vector: number): never => cpu.fault(vector, gateError(cpu, event.vector));
  if (offset + size - 1 > state.get32(State.idtLimit)) refuse(Vector.GP);
  const address = cpu.tableAddress(state.get64(State.idtBase), offset);
  const gate = new Descriptor(cpu.readSystem(address, 4), cpu.readSystem(address + 4, 4));
  if (size === 16) gate.upperBase = cpu.readSystem(address + 8, 4);
  const types = size === 16 ? LONG_GATES : GATES;
  if (gate.isSegment || !types.includes(gate.type)) refuse(Vector.GP);
  if (event.soft && gate.dpl < cpu.cpl) refuse(Vector.GP);
  if (!gate.present) refuse(Vector.NP);
  return gate;
}
const { INTERRUPT_GATE_16, TRAP_GATE_16, INTERRUPT_GATE_32, TRAP_GATE_32, TASK_GATE } = SystemType;
const GATES: readonly number[] = [INTERRUPT_GATE_16, TRAP_GATE_16, INTERRUPT_GATE_32, TRAP_GATE_32, TASK_GATE];
const LONG_GATES: readonly number[] = [INTERRUPT_GATE_32, TRAP_GATE_32];

/** The handler's code segment; its privilege is that of the handler unless it conforms. */
function readHandlerCode(cpu: Processor, selector: number): Located {
  if (isNull(selector)) cpu.generalProtection(cpu.external);
  const code = readDescriptor(cpu, selector);
  if (!code.isCode || code.dpl > cpu.cpl) cpu.generalProtection(selectorError(cpu, selector));
  if (!code.present) cpu.fault(Vector.NP, selectorError(cpu, selector));
  return code;
}

/** Interrupt gates mask interrupts, trap gates (odd types) do not. */
function clearedBy(gate: Descriptor): number {
  return Flag.TF | Flag.NT | Flag.RF | Flag.VM | (gate.type & 1 ? 0 : Flag.IF);
}

function deliverProtected(cpu: Processor, event: Event): void {
  const { state } = cpu;
  const gate = readGate(cpu, event, 8);
  if (gate.type === SystemType.TASK_GATE) {
    cpu.rip = event.returnRip;
    switchTask(cpu, gate.gateSelector, "gate", event.error);
    return;
  }
  const selector = gate.gateSelector;
  const code = readHandlerCode(cpu, selector);
  const { vm86 } = cpu;
  const inner = !code.isConforming && code.dpl < cpu.cpl;
  if (vm86 && (!inner || code.dpl !== 0)) cpu.generalProtection(selectorError(cpu, selector));
  const level = inner ? code.dpl : cpu.cpl;
  const size = gate.type & 8 ? 4 : 2;
  const target = size === 4 ? gate.gateOffset : gate.gateOffset & 0xffffn;

  const next = inner ? innerStack(cpu, level) : undefined;
  const stack = new Stack(cpu, next && { pointer: next.pointer, next, level });
  stack.reserve(((vm86 ? 9 : inner ? 5 : 3) + (event.error === undefined ? 0 : 1)) * size);
  if (target > BigInt(code.limit)) cpu.generalProtection(cpu.external);
  if (next) {
    if (vm86) {
      for (const segment of [Seg.GS, Seg.FS, Seg.DS, Seg.ES]) stack.push(size, BigInt(selectorOf(state, segment)));
    }
    stack.push(size, BigInt(selectorOf(state, Seg.SS)));
    stack.push(size, state.gpr(4));
  }
  stack.push(size, BigInt(pushedFlags(cpu, event)));
  stack.push(size, BigInt(selectorOf(state, Seg.CS)));
  stack.push(size, event.returnRip);
  if (event.error !== undefined) stack.push(size, BigInt(event.error));
  markAccessed(cpu, code);
  if (next) markAccessed(cpu, next.descriptor);

  if (next) setFromDescriptor(state, Seg.SS, next.selector, next.descriptor);
  stack.commit();
  if (vm86) for (const segment of [Seg.ES, Seg.DS, Seg.FS, Seg.GS]) setNull(state, segment, 0);
  setFromDescriptor(state, Seg.CS, (selector & ~SelectorBits.RPL) | level, code);
  cpu.cpl = level;
  cpu.rip = target;
  enterHandler(cpu, clearedBy(gate));
}

function deliverLong(cpu: Processor, event: Event): void {
  const { state } = cpu;
  const gate = readGate(cpu, event, 16);
  const selector = gate.gateSelector;
  const code = readHandlerCode(cpu, selector);
  if (!code.isLong || code.is32Bit) cpu.generalProtection(selectorError(cpu, selector));
  const inner = !code.isConforming && code.dpl < cpu.cpl;
  const level = inner ? code.dpl : cpu.cpl;
  const ist = gate.gateStack;
  const switches = inner || ist !== 0;
  const old = state.gpr(4);
  const pointer = switches ? innerPointer(cpu, level, ist) : old;
  if (switches && !isCanonical(pointer)) cpu.fault(Vector.SS, cpu.external);
  if (!isCanonical(gate.gateOffset)) cpu.generalProtection(cpu.external);

  // The frame begins at a multiple of 16, whichever stack it is on (6.14.2).
  const stack = new Stack(cpu, { pointer: pointer & ~0xfn, level, width: 8 });
  stack.reserve((5 + (event.error === undefined ? 0 : 1)) * 8);
  stack.push(8, BigInt(selectorOf(state, Seg.SS)));
  stack.push(8, old);
  stack.push(8, BigInt(pushedFlags(cpu, event)));
  stack.push(8, BigInt(selectorOf(state, Seg.CS)));
  stack.push(8, event.returnRip);
  if (event.error !== undefined) stack.push(8, BigInt(event.error));
  markAccessed(cpu, code);

  if (inner) setNull(state, Seg.SS, level);
  stack.commit();
  setFromDescriptor(state, Seg.CS, (selector & ~SelectorBits.RPL) | level, code);
  cpu.cpl = level;
  cpu.rip = gate.gateOffset;
  enterHandler(cpu, clearedBy(gate));
}
