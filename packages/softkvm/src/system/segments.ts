/** Loading segment registers, and the instructions that look at descriptors (Intel SDM vol. 3, 5.4 to 5.10). */

import { Seg, SegmentAttribute, State, Vector } from "../cpu/layout.ts";
import { Flag } from "../cpu/state.ts";
import type { Instruction } from "../decode/instruction.ts";
import {
  isNull,
  type Located,
  markAccessed,
  markBusy,
  readDescriptor,
  readUpperHalf,
  selectorError,
} from "./descriptors.ts";
import type { Microcode } from "./microcode.ts";
import { readFarPointer, readOperand, readToModify, segmentOperand, writeOperand, writeRegister } from "./operands.ts";
import { isCanonical, type Processor } from "./processor.ts";
import {
  SegmentType,
  SelectorBits,
  SystemType,
  selectorOf,
  setFromDescriptor,
  setNull,
  setReal,
  setVirtual8086,
} from "./segment-registers.ts";
import { Stack } from "./stack.ts";
import { Shadow } from "./vcpu-events.ts";

/** What loading a segment register will do; nothing is changed in registers before {@link PlannedSegment.commit}. */
export interface PlannedSegment {
  commit(): void;
}

/** Checks a load of ES, SS, DS, FS or GS by an instruction. `level`: the CPL it is checked against. */
export function planSegment(cpu: Processor, segment: number, selector: number, level = cpu.cpl): PlannedSegment {
  const { state } = cpu;
  if (cpu.paragraphs) {
    return { commit: () => (cpu.vm86 ? setVirtual8086 : setReal)(state, segment, selector) };
  }
  if (isNull(selector)) {
    if (segment === Seg.SS) {
      const allowed = cpu.bits64 && level !== 3 && (selector & SelectorBits.RPL) === level;
      if (!allowed) cpu.generalProtection(cpu.external);
    }
    return { commit: () => setNull(state, segment, selector) };
  }
  const descriptor = readDescriptor(cpu, selector);
  if (segment === Seg.SS) checkStack(cpu, selector, descriptor, level, Vector.GP);
  else checkData(cpu, selector, descriptor, level, Vector.GP);
  markAccessed(cpu, descriptor);
  return { commit: () => setFromDescriptor(state, segment, selector, descriptor) };
}

/** A stack segment: writable data of exactly this privilege level. `vector`: the fault of one that is none. */
export function checkStack(cpu: Processor, selector: number, descriptor: Located, level: number, vector: number): void {
  if ((selector & SelectorBits.RPL) !== level || !descriptor.isWritable || descriptor.dpl !== level) {
    cpu.fault(vector, selectorError(cpu, selector));
  }
  if (!descriptor.present) cpu.fault(Vector.SS, selectorError(cpu, selector));
}

export function checkData(cpu: Processor, selector: number, descriptor: Located, level: number, vector: number): void {
  const conforming = descriptor.isCode && descriptor.isConforming;
  const allowed = conforming || Math.max(selector & SelectorBits.RPL, level) <= descriptor.dpl;
  if (!descriptor.isReadable || !allowed) cpu.fault(vector, selectorError(cpu, selector));
  if (!descriptor.present) cpu.fault(Vector.NP, selectorError(cpu, selector));
}

function loadSegment(cpu: Processor, segment: number, selector: number): void {
  planSegment(cpu, segment, selector).commit();
  afterLoad(cpu, segment);
}

/** A load of SS holds interrupts off until after the next instruction (6.8.3). */
function afterLoad(cpu: Processor, segment: number): void {
  if (segment === Seg.SS) cpu.holdEventsOff(Shadow.MOV_SS);
  cpu.modeMayHaveChanged();
}

/** LDS, LES, LFS, LGS, LSS. */
function loadFarPointer(segment: number) {
  return (cpu: Processor, instruction: Instruction): void => {
    const { selector, offset } = readFarPointer(cpu, instruction, 1);
    planSegment(cpu, segment, selector).commit();
    writeRegister(cpu, instruction.operands[0].reg, instruction.operandSize / 8, offset);
    // Other than MOV and POP, LSS brings its stack pointer along and needs no shadow.
    cpu.modeMayHaveChanged();
  };
}

/** The descriptor that LAR, LSL, VERR or VERW ask about, if they may know it. */
function visible(cpu: Processor, selector: number, types: readonly number[]): Located | undefined {
  if (isNull(selector)) return undefined;
  const table = selector & SelectorBits.TABLE;
  const limit = table ? ldtLimit(cpu) : cpu.state.get32(State.gdtLimit);
  if ((selector & SelectorBits.INDEX) + 7 > limit) return undefined;
  const descriptor = readDescriptor(cpu, selector);
  if (!descriptor.isSegment && !types.includes(descriptor.type)) return undefined;
  if (descriptor.isCode && descriptor.isConforming) return descriptor;
  const level = Math.max(cpu.cpl, selector & SelectorBits.RPL);
  return level <= descriptor.dpl ? descriptor : undefined;
}

function ldtLimit(cpu: Processor): number {
  const at = State.segments + Seg.LDT * 32;
  return cpu.state.get32(at + 16) & SegmentAttribute.UNUSABLE ? -1 : cpu.state.get32(at + 8);
}

function setZeroFlag(cpu: Processor, set: boolean): void {
  const flags = cpu.state.rflags;
  cpu.state.rflags = set ? flags | Flag.ZF : flags & ~Flag.ZF;
}

/** What is there only in protected mode. */
function requireProtected(cpu: Processor): void {
  if (cpu.paragraphs) cpu.undefinedInstruction();
}

/** System descriptor types that LAR and LSL tell of, by mode (vol. 2, LAR and LSL). */
const LAR_TYPES = [1, 2, 3, 4, 5, 9, 11, 12];
const LAR_TYPES_LONG = [2, 9, 11, 12];
const LSL_TYPES = [1, 2, 3, 9, 11];
const LSL_TYPES_LONG = [2, 9, 11];

export const SEGMENT_INSTRUCTIONS: Record<string, Microcode> = {
  "mov.to-sreg": (cpu, instruction) => {
    const segment = segmentOperand(instruction, 0);
    if (segment === Seg.CS || segment > Seg.GS) cpu.undefinedInstruction();
    loadSegment(cpu, segment, Number(readOperand(cpu, instruction, 1, 2)));
  },
  "mov.from-sreg": (cpu, instruction) => {
    const segment = segmentOperand(instruction, 1);
    if (segment > Seg.GS) cpu.undefinedInstruction();
    const size = instruction.operands[0].kind === "reg" ? instruction.operandSize / 8 : 2;
    writeOperand(cpu, instruction, 0, BigInt(selectorOf(cpu.state, segment)), size);
  },
  "push.sreg": (cpu, instruction) => {
    const stack = new Stack(cpu);
    const size = (instruction.operandSize / 8) as 2 | 4 | 8;
    const selector = BigInt(selectorOf(cpu.state, segmentOperand(instruction, 0)));
    // Intel's processors move the pointer by the operand size but write only the selector (vol. 2, PUSH).
    if (size === 4) {
      stack.pointer = BigInt.asUintN(stack.width * 8, stack.pointer - 2n);
      stack.push(2, selector);
    } else stack.push(size, selector);
    stack.commit();
  },
  "pop.sreg": (cpu, instruction) => {
    const segment = segmentOperand(instruction, 0);
    const stack = new Stack(cpu);
    const selector = Number(stack.pop(2));
    stack.release(instruction.operandSize / 8 - 2);
    const planned = planSegment(cpu, segment, selector);
    // The pointer of the stack that was popped from.
    stack.commit();
    planned.commit();
    afterLoad(cpu, segment);
  },
  lds: loadFarPointer(Seg.DS),
  les: loadFarPointer(Seg.ES),
  lfs: loadFarPointer(Seg.FS),
  lgs: loadFarPointer(Seg.GS),
  lss: loadFarPointer(Seg.SS),

  lar: (cpu, instruction) => {
    requireProtected(cpu);
    const selector = Number(readOperand(cpu, instruction, 1, 2));
    const descriptor = visible(cpu, selector, cpu.longMode ? LAR_TYPES_LONG : LAR_TYPES);
    if (descriptor !== undefined) {
      const rights = BigInt((descriptor.high & 0x00f0ff00) >>> 0);
      writeOperand(cpu, instruction, 0, rights);
    }
    setZeroFlag(cpu, descriptor !== undefined);
  },
  lsl: (cpu, instruction) => {
    requireProtected(cpu);
    const selector = Number(readOperand(cpu, instruction, 1, 2));
    const descriptor = visible(cpu, selector, cpu.longMode ? LSL_TYPES_LONG : LSL_TYPES);
    if (descriptor !== undefined) writeOperand(cpu, instruction, 0, BigInt(descriptor.limit));
    setZeroFlag(cpu, descriptor !== undefined);
  },
  verr: (cpu, instruction) => {
    requireProtected(cpu);
    const descriptor = visible(cpu, Number(readOperand(cpu, instruction, 0, 2)), []);
    setZeroFlag(cpu, descriptor?.isReadable === true);
  },
  verw: (cpu, instruction) => {
    requireProtected(cpu);
    const descriptor = visible(cpu, Number(readOperand(cpu, instruction, 0, 2)), []);
    setZeroFlag(cpu, descriptor?.isWritable === true);
  },
  arpl: (cpu, instruction) => {
    requireProtected(cpu);
    const target = Number(readToModify(cpu, instruction, 0));
    const level = Number(readOperand(cpu, instruction, 1, 2)) & SelectorBits.RPL;
    const raised = (target & SelectorBits.RPL) < level;
    if (raised) writeOperand(cpu, instruction, 0, BigInt((target & ~SelectorBits.RPL) | level));
    setZeroFlag(cpu, raised);
  },

  lldt: (cpu, instruction) => {
    requireProtected(cpu);
    cpu.requireRing0();
    const selector = Number(readOperand(cpu, instruction, 0, 2));
    planLdt(cpu, selector, Vector.GP).commit();
  },
  ltr: (cpu, instruction) => {
    requireProtected(cpu);
    cpu.requireRing0();
    const selector = Number(readOperand(cpu, instruction, 0, 2));
    if (isNull(selector)) cpu.generalProtection();
    if (selector & SelectorBits.TABLE) cpu.generalProtection(selectorError(cpu, selector));
    const descriptor = readDescriptor(cpu, selector);
    const available = descriptor.type === SystemType.TSS_32 || (!cpu.longMode && descriptor.type === SystemType.TSS_16);
    if (descriptor.isSegment || !available) cpu.generalProtection(selectorError(cpu, selector));
    if (!descriptor.present) cpu.fault(Vector.NP, selectorError(cpu, selector));
    if (cpu.longMode) {
      readUpperHalf(cpu, selector, descriptor);
      if (!isCanonical(descriptor.base)) cpu.generalProtection(selectorError(cpu, selector));
    }
    markBusy(cpu, descriptor);
    setFromDescriptor(cpu.state, Seg.TR, selector, descriptor);
  },
};

/** Checks a load of LDTR. */
export function planLdt(cpu: Processor, selector: number, vector: number): PlannedSegment {
  const { state } = cpu;
  if (isNull(selector)) {
    return { commit: () => setNull(state, Seg.LDT, selector) };
  }
  const refuse = (): never => cpu.fault(vector, selectorError(cpu, selector));
  if (selector & SelectorBits.TABLE) refuse();
  const descriptor = readDescriptor(cpu, selector, vector);
  if (descriptor.isSegment || descriptor.type !== SystemType.LDT) refuse();
  if (!descriptor.present) cpu.fault(vector === Vector.GP ? Vector.NP : vector, selectorError(cpu, selector));
  if (cpu.longMode) {
    readUpperHalf(cpu, selector, descriptor, vector);
    if (!isCanonical(descriptor.base)) refuse();
  }
  return { commit: () => setFromDescriptor(state, Seg.LDT, selector, descriptor) };
}

/** Takes away a data segment that code of the new, lower privilege may not use (vol. 2, RET and IRET). */
export function dropInnerSegment(cpu: Processor, segment: number, level: number): void {
  const at = State.segments + segment * 32 + 16;
  const attributes = cpu.state.get32(at);
  if (attributes & SegmentAttribute.UNUSABLE) return;
  const type = attributes & SegmentAttribute.TYPE;
  const conforming = SegmentType.CODE | SegmentType.CONFORMING;
  if ((type & conforming) === conforming) return;
  if (((attributes >>> SegmentAttribute.DPL_SHIFT) & 3) < level) setNull(cpu.state, segment, 0);
}
