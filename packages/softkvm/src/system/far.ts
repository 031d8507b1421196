/** Far jumps, calls and returns (Intel SDM vol. 3, 5.8; vol. 2, JMP, CALL, RET). */

import { Seg, SegmentAttribute, Vector } from "../cpu/layout.ts";
import type { Instruction } from "../decode/instruction.ts";
import { isNull, type Located, markAccessed, readDescriptor, readUpperHalf, selectorError } from "./descriptors.ts";
import type { Microcode } from "./microcode.ts";
import { DATA_SEGMENTS, readFarPointer } from "./operands.ts";
import { isCanonical, type Processor } from "./processor.ts";
import {
  attributesOf,
  type Descriptor,
  limitOf,
  SelectorBits,
  SystemType,
  selectorOf,
  setFromDescriptor,
  setNull,
  setReal,
  setVirtual8086,
} from "./segment-registers.ts";
import { checkStack, dropInnerSegment } from "./segments.ts";
import { Stack } from "./stack.ts";
import { switchTask } from "./task-switch.ts";
import { innerPointer, innerStack } from "./tss.ts";

type Size = 2 | 4 | 8;

function sizeOf(instruction: Instruction): Size {
  return (instruction.operandSize / 8) as Size;
}

/** Checks code that a far JMP or CALL goes to without a gate, or a gate leads to at this privilege. */
function checkCode(cpu: Processor, selector: number, code: Located, viaGate: boolean): void {
  const refuse = (): never => cpu.generalProtection(selectorError(cpu, selector));
  if (!code.isCode) refuse();
  if (code.isConforming) {
    if (code.dpl > cpu.cpl) refuse();
  } else if (code.dpl !== cpu.cpl || (!viaGate && (selector & SelectorBits.RPL) > cpu.cpl)) refuse();
  if (cpu.longMode && code.isLong && code.is32Bit) refuse();
  if (!code.present) cpu.fault(Vector.NP, selectorError(cpu, selector));
}

/** An offset that the segment does not have, or that is not canonical where it becomes an address of 64 bits. */
export function checkTarget(cpu: Processor, code: Descriptor, offset: bigint): void {
  const long = cpu.longMode && code.isLong;
  if (long ? !isCanonical(offset) : offset > BigInt(code.limit)) cpu.generalProtection(cpu.external);
}

function enterCode(cpu: Processor, selector: number, code: Located, offset: bigint, level = cpu.cpl): void {
  setFromDescriptor(cpu.state, Seg.CS, (selector & ~SelectorBits.RPL) | level, code);
  cpu.cpl = level;
  cpu.rip = offset;
  cpu.modeMayHaveChanged();
}

/** Real-address and virtual-8086 mode. */
export function setCodeParagraph(cpu: Processor, selector: number, offset: bigint): void {
  if (offset > BigInt(limitOf(cpu.state, Seg.CS))) cpu.generalProtection();
  if (cpu.vm86) setVirtual8086(cpu.state, Seg.CS, selector);
  else setReal(cpu.state, Seg.CS, selector);
  cpu.rip = offset;
  cpu.modeMayHaveChanged();
}

const jumpFar: Microcode = (cpu, instruction) => {
  const { selector, offset } = readFarPointer(cpu, instruction, 0);
  if (cpu.paragraphs) {
    setCodeParagraph(cpu, selector, offset);
    return;
  }
  if (isNull(selector)) cpu.generalProtection();
  const descriptor = readDescriptor(cpu, selector);
  if (descriptor.isSegment) {
    checkCode(cpu, selector, descriptor, false);
    checkTarget(cpu, descriptor, offset);
    markAccessed(cpu, descriptor);
    enterCode(cpu, selector, descriptor, offset);
    return;
  }
  const gate = readSystemTarget(cpu, selector, descriptor);
  if (gate === undefined) {
    switchToTask(cpu, selector, descriptor, "jmp");
    return;
  }
  const { code, target } = readGateCode(cpu, gate);
  checkCode(cpu, gate.gateSelector, code, true);
  checkTarget(cpu, code, target);
  markAccessed(cpu, code);
  enterCode(cpu, gate.gateSelector, code, target);
};

const callFar: Microcode = (cpu, instruction) => {
  const { state } = cpu;
  const size = sizeOf(instruction);
  const { selector, offset } = readFarPointer(cpu, instruction, 0);
  if (cpu.paragraphs) {
    if (offset > BigInt(limitOf(state, Seg.CS))) cpu.generalProtection();
    const stack = new Stack(cpu);
    pushReturn(cpu, stack, size);
    setCodeParagraph(cpu, selector, offset);
    stack.commit();
    return;
  }
  if (isNull(selector)) cpu.generalProtection();
  const descriptor = readDescriptor(cpu, selector);
  if (descriptor.isSegment) {
    checkCode(cpu, selector, descriptor, false);
    const stack = new Stack(cpu);
    stack.reserve(2 * size);
    checkTarget(cpu, descriptor, offset);
    pushReturn(cpu, stack, size);
    markAccessed(cpu, descriptor);
    stack.commit();
    enterCode(cpu, selector, descriptor, offset);
    return;
  }
  const gate = readSystemTarget(cpu, selector, descriptor);
  if (gate === undefined) switchToTask(cpu, selector, descriptor, "call");
  else callGate(cpu, gate);
};

function callGate(cpu: Processor, gate: Located): void {
  const { state } = cpu;
  const selector = gate.gateSelector;
  const { code, target, size } = readGateCode(cpu, gate);
  const refuse = (): never => cpu.generalProtection(selectorError(cpu, selector));
  if (!code.isCode || code.dpl > cpu.cpl) refuse();
  if (cpu.longMode && (!code.isLong || code.is32Bit)) refuse();
  if (!code.present) cpu.fault(Vector.NP, selectorError(cpu, selector));
  if (code.isConforming || code.dpl === cpu.cpl) {
    const stack = new Stack(cpu);
    stack.reserve(2 * size);
    checkTarget(cpu, code, target);
    pushReturn(cpu, stack, size);
    markAccessed(cpu, code);
    stack.commit();
    enterCode(cpu, selector, code, target);
    return;
  }
  const level = code.dpl;
  const oldStack = new Stack(cpu);
  const next = cpu.longMode ? undefined : innerStack(cpu, level);
  const pointer = next ? next.pointer : innerPointer(cpu, level);
  if (!next && !isCanonical(pointer)) cpu.fault(Vector.SS, cpu.external);
  const stack = new Stack(cpu, next ? { pointer, next, level } : { pointer, level, width: 8 });
  const parameters = next ? gate.gateParameters : 0;
  stack.reserve((4 + parameters) * size);
  checkTarget(cpu, code, target);
  stack.push(size, BigInt(selectorOf(state, Seg.SS)));
  stack.push(size, state.gpr(4));
  const values = Array.from({ length: parameters }, () => oldStack.pop(size));
  for (const value of values.reverse()) stack.push(size, value);
  pushReturn(cpu, stack, size);
  markAccessed(cpu, code);
  if (next) {
    markAccessed(cpu, next.descriptor);
    setFromDescriptor(state, Seg.SS, next.selector, next.descriptor);
  } else setNull(state, Seg.SS, level);
  stack.commit();
  enterCode(cpu, selector, code, target, level);
}

function pushReturn(cpu: Processor, stack: Stack, size: Size): void {
  stack.push(size, BigInt(selectorOf(cpu.state, Seg.CS)));
  stack.push(size, cpu.rip);
}

/** Checks a system descriptor as a far target: a call gate, or undefined for what switches tasks. */
function readSystemTarget(cpu: Processor, selector: number, descriptor: Located): Located | undefined {
  const { type } = descriptor;
  const refuse = (): never => cpu.generalProtection(selectorError(cpu, selector));
  const isGate = type === SystemType.CALL_GATE_32 || (!cpu.longMode && type === SystemType.CALL_GATE_16);
  const isTask = type === SystemType.TASK_GATE || type === SystemType.TSS_32 || type === SystemType.TSS_16;
  if (!isGate && (cpu.longMode || !isTask)) refuse();
  if (descriptor.dpl < Math.max(cpu.cpl, selector & SelectorBits.RPL)) refuse();
  if (!descriptor.present) cpu.fault(Vector.NP, selectorError(cpu, selector));
  if (!isGate) return undefined;
  if (cpu.longMode) readUpperHalf(cpu, selector, descriptor);
  return descriptor;
}

function readGateCode(cpu: Processor, gate: Located): { code: Located; target: bigint; size: Size } {
  const selector = gate.gateSelector;
  if (isNull(selector)) cpu.generalProtection();
  const size = cpu.longMode ? 8 : gate.type === SystemType.CALL_GATE_32 ? 4 : 2;
  const target = size === 2 ? gate.gateOffset & 0xffffn : gate.gateOffset;
  const code = readDescriptor(cpu, selector);
  if (cpu.longMode && (!code.isLong || code.is32Bit)) cpu.generalProtection(selectorError(cpu, selector));
  return { code, target, size };
}

function switchToTask(cpu: Processor, selector: number, descriptor: Located, reason: "jmp" | "call"): void {
  const isGate = descriptor.type === SystemType.TASK_GATE;
  switchTask(cpu, isGate ? descriptor.gateSelector : selector, reason);
}

const returnFar: Microcode = (cpu, instruction) => {
  const size = sizeOf(instruction);
  const released = instruction.operandCount > 0 ? instruction.operands[0].value & 0xffff : 0;
  const stack = new Stack(cpu);
  const offset = stack.pop(size);
  const selector = stack.popSelector(size);
  if (cpu.paragraphs) {
    setCodeParagraph(cpu, selector, offset);
    stack.release(released);
    stack.commit();
    return;
  }
  returnTo(cpu, stack, size, selector, offset, released);
};

/** The protected-mode half of RETF: to the same or an outer ring. */
function returnTo(cpu: Processor, stack: Stack, size: Size, selector: number, offset: bigint, released: number): void {
  const code = readReturnCode(cpu, selector);
  const level = selector & SelectorBits.RPL;
  stack.release(released);
  if (level === cpu.cpl) {
    checkTarget(cpu, code, offset);
    markAccessed(cpu, code);
    stack.commit();
    enterCode(cpu, selector, code, offset);
    return;
  }
  const pointer = stack.pop(size);
  const stackSelector = stack.popSelector(size);
  const plan = planOuterStack(cpu, stackSelector, level, code);
  checkTarget(cpu, code, offset);
  markAccessed(cpu, code);
  plan();
  enterCode(cpu, selector, code, offset, level);
  const outer = new Stack(cpu);
  outer.pointer = BigInt.asUintN(outer.width * 8, pointer);
  outer.release(released);
  outer.commit();
  for (const segment of DATA_SEGMENTS) dropInnerSegment(cpu, segment, level);
  cpu.modeMayHaveChanged();
}

/** The code segment that RETF or IRET returns to. */
export function readReturnCode(cpu: Processor, selector: number): Located {
  if (isNull(selector)) cpu.generalProtection();
  const code = readDescriptor(cpu, selector);
  const level = selector & SelectorBits.RPL;
  const fits = code.isConforming ? code.dpl <= level : code.dpl === level;
  const impossible = cpu.longMode && code.isLong && code.is32Bit;
  if (!code.isCode || level < cpu.cpl || !fits || impossible) cpu.generalProtection(selectorError(cpu, selector));
  if (!code.present) cpu.fault(Vector.NP, selectorError(cpu, selector));
  return code;
}

/** Checks the SS that a return to `level` loads; the result loads it. */
export function planOuterStack(cpu: Processor, selector: number, level: number, code: Descriptor): () => void {
  if (isNull(selector)) {
    const allowed = cpu.longMode && code.isLong && level !== 3 && (selector & SelectorBits.RPL) === level;
    if (!allowed) cpu.generalProtection();
    return () => setNull(cpu.state, Seg.SS, selector);
  }
  const descriptor = readDescriptor(cpu, selector);
  checkStack(cpu, selector, descriptor, level, Vector.GP);
  markAccessed(cpu, descriptor);
  return () => setFromDescriptor(cpu.state, Seg.SS, selector, descriptor);
}

/** Whether the code segment in force is a 64-bit one. */
export function codeIsLong(cpu: Processor): boolean {
  return (attributesOf(cpu.state, Seg.CS) & SegmentAttribute.LONG) !== 0;
}

export const FAR_INSTRUCTIONS: Record<string, Microcode> = {
  jmpf: jumpFar,
  callf: callFar,
  retf: returnFar,
};
