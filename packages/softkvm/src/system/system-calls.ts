/** SYSCALL, SYSRET, SYSENTER, SYSEXIT, SWAPGS (Intel SDM vol. 3, 5.8.7 and 5.8.8; vol. 2 for each). */

import { Cr4, Efer } from "@lodge/kvm";
import { Seg, SegmentAttribute, State } from "../cpu/layout.ts";
import { Flag } from "../cpu/state.ts";
import type { Instruction } from "../decode/instruction.ts";
import type { Microcode } from "./microcode.ts";
import { Gpr } from "./operands.ts";
import { isCanonical, type Processor } from "./processor.ts";
import { baseOf, SegmentType, setBase, setSegment } from "./segment-registers.ts";

const { S, PRESENT, LONG, DEFAULT_32, GRANULARITY, DPL_SHIFT } = SegmentAttribute;
const FLAT = S | PRESENT | GRANULARITY;
const CODE = FLAT | SegmentType.CODE | SegmentType.READABLE | SegmentType.ACCESSED;
const DATA = FLAT | SegmentType.WRITABLE | SegmentType.ACCESSED | DEFAULT_32;
const LIMIT = 0xffffffff;

/** The descriptors are not read: the processor knows what they would say. */
function setFlat(cpu: Processor, codeSelector: number, stackSelector: number, level: number, long: boolean): void {
  const { state } = cpu;
  const privilege = level << DPL_SHIFT;
  setSegment(state, Seg.CS, codeSelector, 0n, LIMIT, CODE | privilege | (long ? LONG : DEFAULT_32));
  setSegment(state, Seg.SS, stackSelector, 0n, LIMIT, DATA | privilege);
  cpu.cpl = level;
}

function requireSyscall(cpu: Processor): void {
  const enabled = (cpu.state.get64(State.efer) & Efer.SCE) !== 0n;
  // Intel's processors have them in 64-bit mode only.
  if (!enabled || (!cpu.bits64 && !cpu.features.syscallLegacy)) cpu.undefinedInstruction();
}

function syscall(cpu: Processor): void {
  requireSyscall(cpu);
  const { state, msrs } = cpu;
  const { rflags } = state;
  const selector = Number((msrs.star >> 32n) & 0xfffcn);
  if (cpu.longMode) {
    const target = cpu.bits64 ? msrs.lstar : msrs.cstar;
    state.setGpr(Gpr.RCX, cpu.rip);
    state.setGpr(Gpr.R11, BigInt(rflags & ~Flag.RF));
    cpu.rip = target;
    setFlat(cpu, selector, selector + 8, 0, true);
    state.rflags = rflags & ~Number(msrs.sfmask & 0xffffffffn) & ~Flag.RF;
  } else {
    state.setGpr(Gpr.RCX, cpu.rip & 0xffffffffn);
    cpu.rip = msrs.star & 0xffffffffn;
    setFlat(cpu, selector, selector + 8, 0, false);
    state.rflags = rflags & ~(Flag.VM | Flag.IF | Flag.RF);
  }
  cpu.modeMayHaveChanged();
}

function sysret(cpu: Processor, instruction: Instruction): void {
  requireSyscall(cpu);
  if (!cpu.isProtected) cpu.generalProtection();
  cpu.requireRing0();
  const { state, msrs } = cpu;
  const target = state.gpr(Gpr.RCX);
  const wide = instruction.operandSize === 64;
  // Intel's processors check in ring 0, still on the kernel's GS and stack.
  if (wide && !isCanonical(target)) cpu.generalProtection();
  const selector = Number((msrs.star >> 48n) & 0xffffn) | 3;
  const old = state.rflags;
  cpu.rip = wide ? target : target & 0xffffffffn;
  setFlat(cpu, (wide ? selector + 16 : selector) | 3, (selector + 8) | 3, 3, wide);
  const flags = Number(state.gpr(Gpr.R11) & 0x3c7fd7n);
  state.rflags = cpu.longMode ? flags : old | Flag.IF;
  cpu.modeMayHaveChanged();
  cpu.hooks.interruptsMayFlow();
}

/** SYSENTER and SYSEXIT need protected mode and a code segment in the MSR. */
function requireSysenter(cpu: Processor): number {
  const selector = Number(cpu.msrs.sysenterCs & 0xfffcn);
  if (!cpu.isProtected || selector === 0) cpu.generalProtection();
  return selector;
}

function sysenter(cpu: Processor): void {
  const selector = requireSysenter(cpu);
  const { state, msrs } = cpu;
  const long = cpu.longMode;
  state.rflags &= ~(Flag.VM | Flag.IF | Flag.RF);
  state.setGpr(Gpr.RSP, long ? msrs.sysenterEsp : msrs.sysenterEsp & 0xffffffffn);
  cpu.rip = long ? msrs.sysenterEip : msrs.sysenterEip & 0xffffffffn;
  setFlat(cpu, selector, selector + 8, 0, long);
  cpu.modeMayHaveChanged();
}

function sysexit(cpu: Processor, instruction: Instruction): void {
  const selector = requireSysenter(cpu);
  cpu.requireRing0();
  const { state } = cpu;
  const wide = instruction.operandSize === 64;
  const target = state.gpr(Gpr.RDX);
  const stack = state.gpr(Gpr.RCX);
  if (wide && !(isCanonical(target) && isCanonical(stack))) cpu.generalProtection();
  const code = (selector + (wide ? 32 : 16)) | 3;
  cpu.rip = wide ? target : target & 0xffffffffn;
  state.setGpr(Gpr.RSP, wide ? stack : stack & 0xffffffffn);
  setFlat(cpu, code, code + 8, 3, wide);
  cpu.modeMayHaveChanged();
}

/** RDFSBASE and its three companions. */
function baseInstruction(segment: number, write: boolean): Microcode {
  return (cpu, instruction) => {
    if (!cpu.bits64 || !(cpu.state.get64(State.cr4) & Cr4.FSGSBASE)) cpu.undefinedInstruction();
    const [operand] = instruction.operands;
    const { state } = cpu;
    if (!write) {
      const base = baseOf(state, segment);
      state.setGpr(operand.reg, operand.size === 8 ? base : base & 0xffffffffn);
      return;
    }
    const value = operand.size === 8 ? state.gpr(operand.reg) : state.gpr(operand.reg) & 0xffffffffn;
    if (!isCanonical(value)) cpu.generalProtection();
    setBase(state, segment, value);
    cpu.modeMayHaveChanged();
  };
}

export const SYSTEM_CALL_INSTRUCTIONS: Record<string, Microcode> = {
  syscall,
  sysret,
  sysenter,
  sysexit,
  swapgs: (cpu) => {
    if (!cpu.bits64) cpu.undefinedInstruction();
    cpu.requireRing0();
    const base = baseOf(cpu.state, Seg.GS);
    setBase(cpu.state, Seg.GS, cpu.msrs.kernelGsBase);
    cpu.msrs.kernelGsBase = base;
    cpu.modeMayHaveChanged();
  },
  rdfsbase: baseInstruction(Seg.FS, false),
  rdgsbase: baseInstruction(Seg.GS, false),
  wrfsbase: baseInstruction(Seg.FS, true),
  wrgsbase: baseInstruction(Seg.GS, true),
};
