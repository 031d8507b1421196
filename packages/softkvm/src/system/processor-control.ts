/** Flags, halting, time and identification: instructions on the processor as a whole (Intel SDM vol. 2). */

import { Cr4 } from "@lodge/kvm";
import { State, Vector } from "../cpu/layout.ts";
import { Flag } from "../cpu/state.ts";
import type { Instruction } from "../decode/instruction.ts";
import { Cr4More, Xcr0 } from "./features.ts";
import { mergeFlags } from "./iret.ts";
import type { Microcode } from "./microcode.ts";
import { readMsr, writeMsr } from "./msr.ts";
import { Gpr, writeRegister } from "./operands.ts";
import { kindOf, type Processor } from "./processor.ts";
import { Stack } from "./stack.ts";
import { Shadow } from "./vcpu-events.ts";

type Size = 2 | 4 | 8;

function requireIopl(cpu: Processor): void {
  if (cpu.isProtected && cpu.cpl > cpu.iopl) cpu.generalProtection();
}

function low32(cpu: Processor, register: number): number {
  return Number(cpu.state.gpr(register) & 0xffffffffn);
}
function setEdxEax(cpu: Processor, value: bigint): void {
  cpu.state.setGpr(Gpr.RAX, value & 0xffffffffn);
  cpu.state.setGpr(Gpr.RDX, (value >> 32n) & 0xffffffffn);
}
function edxEax(cpu: Processor): bigint {
  return (cpu.state.gpr(Gpr.RAX) & 0xffffffffn) | ((cpu.state.gpr(Gpr.RDX) & 0xffffffffn) << 32n);
}

/** CR4.TSD keeps the time from all but ring 0. */
function requireTime(cpu: Processor): void {
  if (cpu.isProtected && cpu.cpl !== 0 && cpu.state.get64(State.cr4) & Cr4More.TSD) cpu.generalProtection();
}

function pushFlags(cpu: Processor, instruction: Instruction): void {
  if (cpu.vm86 && cpu.iopl !== 3) cpu.generalProtection();
  const stack = new Stack(cpu);
  // The image has VM and RF clear.
  stack.push((instruction.operandSize / 8) as Size, BigInt(cpu.state.rflags & ~(Flag.VM | Flag.RF)));
  stack.commit();
}

function popFlags(cpu: Processor, instruction: Instruction): void {
  if (cpu.vm86 && cpu.iopl !== 3) cpu.generalProtection();
  const size = (instruction.operandSize / 8) as Size;
  const stack = new Stack(cpu);
  const image = stack.pop(size);
  const kept = Flag.VM | Flag.VIF | Flag.VIP | (cpu.vm86 ? Flag.IOPL : 0);
  const flags = mergeFlags(cpu, image, size, kept) & ~Flag.RF;
  stack.commit();
  const opened = flags & ~cpu.systemFlags & Flag.IF;
  cpu.state.rflags = flags;
  cpu.modeMayHaveChanged();
  if (opened) cpu.hooks.interruptsMayFlow();
}

function setInterruptFlag(cpu: Processor): void {
  requireIopl(cpu);
  const flags = cpu.systemFlags;
  // Interrupts wait for one more instruction, but only where they were off.
  if ((flags & Flag.IF) === 0) cpu.holdEventsOff(Shadow.STI);
  cpu.state.set32(State.flagRest, flags | Flag.IF);
  cpu.hooks.interruptsMayFlow();
}

function setAlignmentFlag(set: boolean): Microcode {
  return (cpu) => {
    if (cpu.cpl !== 0 || !(cpu.features.cr4 & Cr4.SMAP)) cpu.undefinedInstruction();
    const flags = cpu.systemFlags;
    cpu.state.set32(State.flagRest, set ? flags | Flag.AC : flags & ~Flag.AC);
    cpu.modeMayHaveChanged();
  };
}

function requireXsave(cpu: Processor): void {
  if (!(cpu.state.get64(State.cr4) & Cr4.OSXSAVE)) cpu.undefinedInstruction();
}

/** XCR0 as XSETBV takes it: x87 always, AVX only with SSE, nothing that the model lacks (vol. 1, 13.3). */
export function isPossibleXcr0(cpu: Processor, value: bigint): boolean {
  if (!(value & Xcr0.X87) || value & ~cpu.features.xcr0) return false;
  return !(value & Xcr0.AVX) || (value & Xcr0.SSE) !== 0n;
}

function setXcr(cpu: Processor): void {
  requireXsave(cpu);
  cpu.requireRing0();
  const value = edxEax(cpu);
  if (low32(cpu, Gpr.RCX) !== 0 || !isPossibleXcr0(cpu, value)) cpu.generalProtection();
  cpu.state.set64(State.xcr0, value);
  cpu.modeMayHaveChanged();
}

function monitor(cpu: Processor, instruction: Instruction): void {
  if (!cpu.features.mwait || cpu.cpl !== 0) cpu.undefinedInstruction();
  if (low32(cpu, Gpr.RCX) !== 0) cpu.generalProtection();
  const [operand] = instruction.operands;
  const offset = BigInt.asUintN(instruction.addressSize, cpu.state.gpr(Gpr.RAX));
  const segment = operand.kind === "mem" ? operand.segment : 3;
  cpu.read(cpu.linear(segment, offset, 1, false), 1, kindOf(segment));
}

/** CPUID's answer goes to the four registers whole. */
function identify(cpu: Processor): void {
  const { eax, ebx, ecx, edx } = cpu.hooks.cpuid(low32(cpu, Gpr.RAX), low32(cpu, Gpr.RCX));
  const { state } = cpu;
  state.setGpr(Gpr.RAX, BigInt(eax >>> 0));
  state.setGpr(Gpr.RBX, BigInt(ebx >>> 0));
  state.setGpr(Gpr.RCX, BigInt(ecx >>> 0));
  state.setGpr(Gpr.RDX, BigInt(edx >>> 0));
}

function hypercall(cpu: Processor): void {
  if (!cpu.hooks.hypercall()) cpu.undefinedInstruction();
}

export const PROCESSOR_INSTRUCTIONS: Record<string, Microcode> = {
  pushf: pushFlags,
  popf: popFlags,
  cli: (cpu) => {
    requireIopl(cpu);
    cpu.state.set32(State.flagRest, cpu.systemFlags & ~Flag.IF);
  },
  sti: setInterruptFlag,
  stac: setAlignmentFlag(true),
  clac: setAlignmentFlag(false),
  hlt: (cpu) => {
    cpu.requireRing0();
    cpu.hooks.halt();
  },
  monitor,
  // Waits for anything, as a halt does: a store to the monitored line wakes nobody, which MWAIT allows.
  mwait: (cpu) => {
    if (!cpu.features.mwait || cpu.cpl !== 0) cpu.undefinedInstruction();
    cpu.hooks.halt();
  },
  rdtsc: (cpu) => {
    requireTime(cpu);
    setEdxEax(cpu, cpu.hooks.readTsc());
  },
  rdtscp: (cpu) => {
    requireTime(cpu);
    setEdxEax(cpu, cpu.hooks.readTsc());
    cpu.state.setGpr(Gpr.RCX, cpu.msrs.tscAux & 0xffffffffn);
  },
  rdpid: (cpu, instruction) => {
    const [operand] = instruction.operands;
    writeRegister(cpu, operand.reg, operand.size, cpu.msrs.tscAux & 0xffffffffn);
  },
  // No performance counters: those of the architecture are announced by CPUID leaf 10, which is empty.
  rdpmc: (cpu) => cpu.generalProtection(),
  cpuid: identify,
  xgetbv: (cpu) => {
    requireXsave(cpu);
    if (low32(cpu, Gpr.RCX) !== 0) cpu.generalProtection();
    setEdxEax(cpu, cpu.state.get64(State.xcr0));
  },
  xsetbv: setXcr,
  rdmsr: (cpu) => {
    cpu.requireRing0();
    const value = readMsr(cpu, low32(cpu, Gpr.RCX));
    setEdxEax(cpu, value ?? cpu.generalProtection());
  },
  wrmsr: (cpu) => {
    cpu.requireRing0();
    if (!writeMsr(cpu, low32(cpu, Gpr.RCX), edxEax(cpu))) cpu.generalProtection();
  },
  vmcall: hypercall,
  vmmcall: hypercall,
};

/** #NM or #UD before an SSE or x87 instruction: CR0.EM and TS (vol. 3, 2.5). */
export function checkFpu(cpu: Processor, kind: "x87" | "sse"): void {
  const cr0 = cpu.state.get32(State.cr0);
  if (kind === "sse" && (cr0 & 4 || !(cpu.state.get64(State.cr4) & Cr4.OSFXSR))) cpu.undefinedInstruction();
  if (cr0 & (kind === "sse" ? 8 : 12)) cpu.fault(Vector.NM);
}
