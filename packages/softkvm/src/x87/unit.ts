/** The x87 unit as instructions use it: the register stack, exceptions, and what is kept for handlers of #MF. */

import { Seg, State, Vector } from "../cpu/layout.ts";
import type { CpuState } from "../cpu/state.ts";
import type { Instruction } from "../decode/instruction.ts";
import { GUEST_FAULT } from "../system/faults.ts";
import { effectiveOffset } from "../system/operands.ts";
import { linear64, type Processor } from "../system/processor.ts";
import { checkFpu } from "../system/processor-control.ts";
import { type Float80, INDEFINITE, type Sign } from "./float80.ts";
import { BEFORE_RESULT, Exception, Status, withSummary } from "./layout.ts";
import type { Result } from "./round.ts";

/** What a waiting instruction begins with: #NM, then #MF for what an earlier one left. */
export function begin(cpu: Processor): void {
  checkFpu(cpu, "x87");
  takePending(cpu);
}

/** With CR0.NE clear a PC would report by IRQ 13; under KVM the processor has NE set whatever the guest's CR0 says. */
export function takePending(cpu: Processor): void {
  const { state } = cpu;
  if (state.get32(State.fsw) & ~state.get32(State.fcw) & Exception.ALL) cpu.fault(Vector.MF);
}

// The register stack.

function physical(state: CpuState, index: number): number {
  return (state.get32(State.ftop) + index) & 7;
}

export function isEmpty({ state }: Processor, index: number): boolean {
  return (state.get32(State.ftw) & (1 << physical(state, index))) === 0;
}

export function register({ state }: Processor, index: number): Float80 {
  const at = State.fpr + physical(state, index) * 16;
  const high = state.get32(at + 8);
  return { sign: ((high >>> 15) & 1) as Sign, exponent: high & 0x7fff, significand: state.get64(at) };
}

/** Writes a register, which is then not empty. */
export function setRegister({ state }: Processor, index: number, value: Float80): void {
  const number = physical(state, index);
  const at = State.fpr + number * 16;
  state.set64(at, value.significand);
  state.set32(at + 8, (value.sign << 15) | value.exponent);
  state.set32(State.ftw, state.get32(State.ftw) | (1 << number));
}

export function free({ state }: Processor, index: number): void {
  state.set32(State.ftw, state.get32(State.ftw) & ~(1 << physical(state, index)));
}

export function rotate({ state }: Processor, by: number): void {
  state.set32(State.ftop, (state.get32(State.ftop) + by) & 7);
}

export function pop(cpu: Processor, count = 1): void {
  for (let index = 0; index < count; index++) {
    free(cpu, 0);
    rotate(cpu, 1);
  }
}

export function push(cpu: Processor, value: Float80): void {
  rotate(cpu, -1);
  setRegister(cpu, 0, value);
}

export const control = ({ state }: Processor): number => state.get32(State.fcw);

// Exceptions.

/** Flags of what keeps the instruction from having a result, if one of them is not masked; else 0. */
export function preventing(cpu: Processor, flags: number): number {
  return flags & ~control(cpu) & BEFORE_RESULT ? flags & (BEFORE_RESULT | Status.STACK_FAULT) : 0;
}

export const UNDERFLOW = Exception.IE | Status.STACK_FAULT;
/** Of the stack: C1 tells it from {@link UNDERFLOW}. */
export const OVERFLOW = UNDERFLOW | Status.C1;

/**
 * Ends an instruction: adds flags to the status word, of which C1 is replaced and with `conditions` C0, C2 and C3, too,
 * and notes where the instruction was. As on processors that say so in CPUID (leaf 7, EBX bits 6 and 13), its opcode and
 * operand are noted with an unmasked exception only, and selectors never.
 */
export function conclude(cpu: Processor, instruction: Instruction, flags: number, conditions?: number): void {
  const { state } = cpu;
  const replaced = conditions === undefined ? Status.C1 : Status.CONDITIONS;
  const status = (state.get32(State.fsw) & ~replaced) | flags | (conditions ?? 0);
  const masks = control(cpu);
  if (flags & ~masks & Exception.ALL) noteOperand(cpu, instruction);
  state.set32(State.fsw, withSummary(status, masks));
  state.set64(State.fip, cpu.instructionRip);
}

/** For instructions that leave the status word alone. */
export function notePointer(cpu: Processor): void {
  cpu.state.set64(State.fip, cpu.instructionRip);
}

function noteOperand(cpu: Processor, instruction: Instruction): void {
  const { state } = cpu;
  state.set32(State.fop, opcodeOf(cpu));
  for (let index = 0; index < instruction.operandCount; index++) {
    const operand = instruction.operands[index]!;
    if (operand.kind === "mem") state.set64(State.fdp, effectiveOffset(cpu, instruction, operand));
  }
}

/** The low bits of the first opcode byte and the ModRM byte, which decoding does not keep: they are fetched again. */
function opcodeOf(cpu: Processor): number {
  const { state, memory } = cpu;
  const base = cpu.bits64 ? 0n : state.get64(State.segmentBase + Seg.CS * 8);
  let first = -1;
  for (let at = 0n; at < 15n; at++) {
    const sum = base + cpu.instructionRip + at;
    const host = memory.fetch(cpu.bits64 ? linear64(sum) : Number(BigInt.asUintN(32, sum)));
    if (host < 0) throw GUEST_FAULT;
    const byte = state.view.getUint8(host);
    if (first >= 0) return ((first & 7) << 8) | byte;
    if (byte >= 0xd8 && byte <= 0xdf) first = byte;
  }
  return 0;
}

// Ends that many instructions share.

/** The result goes to a register, unless an exception prevents it. */
export function deliver(cpu: Processor, instruction: Instruction, result: Result, to: number, pops = 0): void {
  const prevented = preventing(cpu, result.flags);
  if (prevented) {
    conclude(cpu, instruction, prevented);
    return;
  }
  setRegister(cpu, to, result.value);
  pop(cpu, pops);
  conclude(cpu, instruction, result.flags | (result.up ? Status.C1 : 0));
}

/** An operand's register was empty. */
export function underflow(cpu: Processor, instruction: Instruction, to: number, pops = 0): void {
  deliver(cpu, instruction, { value: INDEFINITE, flags: UNDERFLOW, up: false }, to, pops);
}

/** The result goes on top of the stack. A load is done (`loaded`) even if its operand is denormal and DE not masked. */
export function deliverAbove(
  cpu: Processor,
  instruction: Instruction,
  value: Float80,
  flags = 0,
  loaded = false,
): void {
  // An empty operand goes before a full stack.
  const isFull = !isEmpty(cpu, -1) && flags !== UNDERFLOW;
  const raised = isFull ? OVERFLOW : flags;
  const prevented = loaded && raised === Exception.DE ? 0 : preventing(cpu, raised);
  if (prevented === 0) push(cpu, isFull ? INDEFINITE : value);
  conclude(cpu, instruction, (prevented || raised) | (raised & Status.C1));
}
