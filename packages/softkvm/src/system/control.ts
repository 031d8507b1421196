/** Instructions on control and debug registers, descriptor table registers, caches and translations (Intel SDM vol. 2). */

import { Cr0, Cr4 } from "@lodge/kvm";
import { Seg, State, Vector } from "../cpu/layout.ts";
import type { Instruction } from "../decode/instruction.ts";
import { loadCr3, writeCr0, writeCr4 } from "./control-registers.ts";
import { Cr0More, Cr4More } from "./features.ts";
import type { Microcode } from "./microcode.ts";
import {
  effectiveOffset,
  linearOf,
  quickLinear,
  readOperand,
  readRegister,
  writeOperand,
  writeRegister,
} from "./operands.ts";
import { isCanonical, kindOf, linear64, type Processor } from "./processor.ts";
import { DR6, DR6_FIXED, DR7, DR7_FIXED, debugRegistersChanged } from "./regs.ts";
import { selectorOf } from "./segment-registers.ts";

/** DR7.GD, and the bit of DR6 that tells of it (17.2.3 and 17.2.4). */
const DR7_GENERAL_DETECT = 0x2000n;
const DR6_GENERAL_DETECT = 0x2000n;
/** What may be written (17.2). */
const DR6_WRITABLE = 0xe00fn;
const DR7_WRITABLE = 0xffff2bffn;

/** With CR4.UMIP, what tells of system registers is ring 0's. */
function requireUmip(cpu: Processor): void {
  if (cpu.cpl !== 0 && cpu.state.get64(State.cr4) & Cr4.UMIP && cpu.isProtected) cpu.generalProtection();
}

/** Privilege goes first: in ring 3 even one that does not exist is #GP (seen on the processor). */
const CONTROL_REGISTERS = [0, 2, 3, 4, 8];

function readControl(cpu: Processor, instruction: Instruction): void {
  const [target, source] = instruction.operands;
  cpu.requireRing0();
  if (!CONTROL_REGISTERS.includes(source.reg)) cpu.undefinedInstruction();
  const { state } = cpu;
  const values: Record<number, () => bigint> = {
    0: () => state.get64(State.cr0),
    2: () => state.get64(State.cr2),
    3: () => state.get64(State.cr3),
    4: () => state.get64(State.cr4),
    8: () => BigInt(cpu.hooks.readTpr()),
  };
  writeRegister(cpu, target.reg, target.size, values[source.reg]!());
}

function writeControl(cpu: Processor, instruction: Instruction): void {
  const [target, source] = instruction.operands;
  cpu.requireRing0();
  if (!CONTROL_REGISTERS.includes(target.reg)) cpu.undefinedInstruction();
  const value = readRegister(cpu, source.reg, source.size);
  switch (target.reg) {
    case 0:
      writeCr0(cpu, value);
      return;
    case 2:
      cpu.state.set64(State.cr2, value);
      return;
    case 3:
      loadCr3(cpu, value);
      return;
    case 4:
      writeCr4(cpu, value);
      return;
    default:
      if (value > 15n) cpu.generalProtection();
      cpu.hooks.writeTpr(Number(value));
      cpu.hooks.interruptsMayFlow();
  }
}

/** DR4 and DR5 are DR6 and DR7 unless CR4.DE says that there are none. General detect comes before the access. */
function debugRegister(cpu: Processor, number: number): number {
  const { state } = cpu;
  cpu.requireRing0();
  if (number > 7 || ((number === 4 || number === 5) && state.get64(State.cr4) & Cr4More.DE)) {
    cpu.undefinedInstruction();
  }
  if (state.get64(DR7) & DR7_GENERAL_DETECT) {
    // A fault: the instruction has not moved anything.
    state.set64(DR6, (state.get64(DR6) & ~0xfn) | DR6_GENERAL_DETECT);
    state.set64(DR7, state.get64(DR7) & ~DR7_GENERAL_DETECT);
    cpu.fault(Vector.DB);
  }
  return number < 4 ? State.dr + number * 8 : number & 1 ? DR7 : DR6;
}

function tableImage(register: "gdt" | "idt"): { base: number; limit: number } {
  return register === "gdt"
    ? { base: State.gdtBase, limit: State.gdtLimit }
    : { base: State.idtBase, limit: State.idtLimit };
}

/** SGDT and SIDT: limit, then base: 8 bytes in 64-bit mode, else 4 whatever the operand size (vol. 2, SGDT). */
function storeTable(register: "gdt" | "idt"): Microcode {
  const fields = tableImage(register);
  return (cpu, instruction) => {
    requireUmip(cpu);
    const [target] = instruction.operands;
    const size = cpu.bits64 ? 8 : 4;
    const kind = kindOf(target.segment);
    const at = linearOf(cpu, instruction, target, 2, true);
    const baseAt = linearOf(cpu, instruction, target, size, true, 2);
    // Both or none.
    cpu.probe(baseAt, size, kind | 1);
    cpu.write(at, 2, cpu.state.get32(fields.limit), kind);
    cpu.writeSized(baseAt, size, cpu.state.get64(fields.base), kind);
  };
}

/** LGDT and LIDT: with 16-bit operand size 24 bits of the base. */
function loadTable(register: "gdt" | "idt"): Microcode {
  const fields = tableImage(register);
  return (cpu, instruction) => {
    cpu.requireRing0();
    const [source] = instruction.operands;
    const size = cpu.bits64 ? 8 : 4;
    const kind = kindOf(source.segment);
    const limit = cpu.read(linearOf(cpu, instruction, source, 2, false), 2, kind);
    const raw = cpu.readSized(linearOf(cpu, instruction, source, size, false, 2), size, kind);
    const base = size === 4 && instruction.operandSize === 16 ? raw & 0xffffffn : raw;
    if (size === 8 && !isCanonical(base)) cpu.generalProtection();
    cpu.state.set64(fields.base, base);
    cpu.state.set32(fields.limit, limit);
  };
}

/** SLDT, STR: a register gets all of the operand size, memory two bytes. */
function storeSelector(segment: number): Microcode {
  return (cpu, instruction) => {
    if (cpu.paragraphs) cpu.undefinedInstruction();
    requireUmip(cpu);
    const size = instruction.operands[0].kind === "reg" ? instruction.operandSize / 8 : 2;
    writeOperand(cpu, instruction, 0, BigInt(selectorOf(cpu.state, segment)), size);
  };
}

/** INVPCID types (vol. 2). Buffers are not kept apart by PCID, so all but the first flush everything. */
function invalidatePcid(cpu: Processor, instruction: Instruction): void {
  cpu.requireRing0();
  const [type, operand] = instruction.operands;
  const kind = kindOf(operand.segment);
  const low = cpu.read64(linearOf(cpu, instruction, operand, 8, false), kind);
  const address = cpu.read64(linearOf(cpu, instruction, operand, 8, false, 8), kind);
  const wanted = readRegister(cpu, type.reg, type.size);
  if (wanted > 3n || (wanted < 2n && low >> 12n)) cpu.generalProtection();
  const pcids = (cpu.state.get64(State.cr4) & Cr4.PCIDE) !== 0n;
  if (wanted < 2n && !pcids && low & 0xfffn) cpu.generalProtection();
  if (wanted === 0n) {
    if (!isCanonical(address)) cpu.generalProtection();
    cpu.flushPage(linear64(address));
  } else cpu.flushAll();
}

export const CONTROL_INSTRUCTIONS: Record<string, Microcode> = {
  "mov.from-cr": readControl,
  "mov.to-cr": writeControl,
  "mov.from-dr": (cpu, instruction) => {
    const [target, source] = instruction.operands;
    const field = debugRegister(cpu, source.reg);
    writeRegister(cpu, target.reg, target.size, cpu.state.get64(field));
  },
  "mov.to-dr": (cpu, instruction) => {
    const [target, source] = instruction.operands;
    const field = debugRegister(cpu, target.reg);
    const value = readRegister(cpu, source.reg, source.size);
    if (field >= DR6 && value >> 32n) cpu.generalProtection();
    if (field === DR6) cpu.state.set64(DR6, (value & DR6_WRITABLE) | DR6_FIXED);
    else if (field === DR7) cpu.state.set64(DR7, (value & DR7_WRITABLE) | DR7_FIXED);
    else cpu.state.set64(field, value);
    debugRegistersChanged(cpu);
  },
  clts: (cpu) => {
    cpu.requireRing0();
    cpu.state.set64(State.cr0, cpu.state.get64(State.cr0) & ~Cr0More.TS);
    cpu.modeMayHaveChanged();
  },
  lmsw: (cpu, instruction) => {
    cpu.requireRing0();
    const value = readOperand(cpu, instruction, 0, 2);
    const old = cpu.state.get64(State.cr0);
    // PE, MP, EM and TS; PE can only be set.
    writeCr0(cpu, (old & ~0xen) | (value & 0xfn) | (old & Cr0.PE));
  },
  smsw: (cpu, instruction) => {
    requireUmip(cpu);
    const size = instruction.operands[0].kind === "reg" ? instruction.operandSize / 8 : 2;
    writeOperand(cpu, instruction, 0, cpu.state.get64(State.cr0), size);
  },
  sgdt: storeTable("gdt"),
  sidt: storeTable("idt"),
  lgdt: loadTable("gdt"),
  lidt: loadTable("idt"),
  sldt: storeSelector(Seg.LDT),
  str: storeSelector(Seg.TR),
  invlpg: (cpu, instruction) => {
    cpu.requireRing0();
    const [operand] = instruction.operands;
    const quick = quickLinear(cpu, instruction, operand);
    if (!Number.isNaN(quick)) return cpu.flushPage(quick);
    const base = cpu.state.get64(State.segmentBase + operand.segment * 8);
    const address = base + effectiveOffset(cpu, instruction, operand);
    // No fault for an address that is not canonical, nor beyond a segment's limit.
    if (!cpu.bits64) cpu.flushPage(Number(BigInt.asUintN(32, address)));
    else if (isCanonical(address)) cpu.flushPage(linear64(address));
  },
  invpcid: invalidatePcid,
  // Caches are the host's.
  invd: (cpu) => cpu.requireRing0(),
  wbinvd: (cpu) => cpu.requireRing0(),
};
