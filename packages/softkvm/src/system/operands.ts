/** Operands of an instruction as microcode reads and writes them. */

import { Seg, State } from "../cpu/layout.ts";
import type { Instruction, Operand } from "../decode/instruction.ts";
import { AccessKind } from "../mmu/access.ts";
import { kindOf, type Processor } from "./processor.ts";

/** The offset in its segment that a memory operand names. */
export function effectiveOffset(cpu: Processor, instruction: Instruction, operand: Operand): bigint {
  const { state } = cpu;
  let offset = operand.disp64;
  if (operand.ripRelative) offset += cpu.rip;
  if (operand.base >= 0) offset += state.gpr(operand.base);
  if (operand.index >= 0) offset += state.gpr(operand.index) << BigInt(operand.scale);
  return BigInt.asUintN(instruction.addressSize, offset);
}

/**
 * The linear address that a memory operand names in 64-bit code, as a number, where it is canonical and its parts are small
 * enough; else NaN. For what happens too often for bigints.
 */
export function quickLinear(cpu: Processor, instruction: Instruction, operand: Operand): number {
  if (!cpu.bits64 || instruction.addressSize !== 64) return Number.NaN;
  const { state } = cpu;
  const base = operand.base < 0 ? 0 : state.number(State.gpr + operand.base * 8);
  const index = operand.index < 0 ? 0 : state.number(State.gpr + operand.index * 8) * 2 ** operand.scale;
  const origin = operand.ripRelative ? state.number(State.rip) : 0;
  const segment = operand.segment < Seg.FS ? 0 : state.number(State.segmentBase + operand.segment * 8);
  const displacement = operand.dispHigh * 2 ** 32 + (operand.disp >>> 0);
  // Sums of these are exact; where a part is beyond, what comes out may not be.
  const isExact = Math.abs(base) + Math.abs(index) + Math.abs(origin) + Math.abs(segment) < 2 ** 52;
  const sum = base + index + origin + segment + displacement;
  return isExact && sum >= -(2 ** 47) && sum < 2 ** 47 ? sum : Number.NaN;
}

/** The linear address of a memory operand's bytes `at` to `at + size - 1`, after the segment's checks. */
export function linearOf(
  cpu: Processor,
  instruction: Instruction,
  operand: Operand,
  size: number,
  write: boolean,
  at = 0,
): number {
  const offset = BigInt.asUintN(instruction.addressSize, effectiveOffset(cpu, instruction, operand) + BigInt(at));
  return cpu.linear(operand.segment, offset, size, write);
}

/** The lower bits of a general register. AH, CH, DH and BH are `high`. */
export function readRegister(cpu: Processor, reg: number, size: number, high = false): bigint {
  return BigInt.asUintN(size * 8, high ? cpu.state.gpr(reg) >> 8n : cpu.state.gpr(reg));
}

/** Writes a general register: 32 bits clear the upper half, fewer keep the rest. */
export function writeRegister(cpu: Processor, reg: number, size: number, value: bigint, high = false): void {
  const { state } = cpu;
  if (size >= 4) {
    state.setGpr(reg, BigInt.asUintN(size * 8, value));
    return;
  }
  const shift = high ? 8n : 0n;
  const mask = (size === 1 ? 0xffn : 0xffffn) << shift;
  state.setGpr(reg, (state.gpr(reg) & ~mask) | ((value << shift) & mask));
}

/** Reads a register or memory operand of 1, 2, 4 or 8 bytes, or an immediate. */
export function readOperand(cpu: Processor, instruction: Instruction, index: number, size?: number): bigint {
  const operand = instruction.operands[index]!;
  const bytes = size ?? operand.size;
  switch (operand.kind) {
    case "reg":
      return readRegister(cpu, operand.reg, bytes, operand.high);
    case "mem":
      return cpu.readSized(linearOf(cpu, instruction, operand, bytes, false), bytes, kindOf(operand.segment));
    default:
      return BigInt.asUintN(bytes * 8, operand.value64);
  }
}

/** Writes a register or memory operand. */
export function writeOperand(
  cpu: Processor,
  instruction: Instruction,
  index: number,
  value: bigint,
  size?: number,
): void {
  const operand = instruction.operands[index]!;
  const bytes = size ?? operand.size;
  if (operand.kind === "reg") writeRegister(cpu, operand.reg, bytes, value, operand.high);
  else cpu.writeSized(linearOf(cpu, instruction, operand, bytes, true), bytes, value, kindOf(operand.segment));
}

/** Reads memory that is to be written next: faults as a write does. */
export function readToModify(cpu: Processor, instruction: Instruction, index: number): bigint {
  const operand = instruction.operands[index]!;
  if (operand.kind === "reg") return readRegister(cpu, operand.reg, operand.size, operand.high);
  const address = linearOf(cpu, instruction, operand, operand.size, true);
  return cpu.readSized(address, operand.size, kindOf(operand.segment) | AccessKind.WRITE);
}

/** A far pointer: an immediate, or memory with the offset of operand size and the selector behind it. */
export function readFarPointer(
  cpu: Processor,
  instruction: Instruction,
  index: number,
): { selector: number; offset: bigint } {
  const operand = instruction.operands[index]!;
  if (operand.kind === "far") {
    return { selector: operand.selector, offset: BigInt(operand.value >>> 0) };
  }
  const size = instruction.operandSize / 8;
  const kind = kindOf(operand.segment);
  const offset = cpu.readSized(linearOf(cpu, instruction, operand, size, false), size, kind);
  const selector = cpu.read(linearOf(cpu, instruction, operand, 2, false, size), 2, kind);
  return { selector, offset };
}

/** The segment register that an operand names. */
export function segmentOperand(instruction: Instruction, index: number): number {
  return instruction.operands[index]!.reg;
}

/** The general registers that microcode names. */
export const Gpr = { RAX: 0, RCX: 1, RDX: 2, RBX: 3, RSP: 4, RBP: 5, RSI: 6, RDI: 7, R11: 11 } as const;

/** The data segments that a change of privilege may take away, in the order of their numbers. */
export const DATA_SEGMENTS = [Seg.ES, Seg.DS, Seg.FS, Seg.GS] as const;
