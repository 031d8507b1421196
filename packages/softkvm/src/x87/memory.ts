/** Memory operands of x87 instructions. */

import { State } from "../cpu/layout.ts";
import type { Instruction } from "../decode/instruction.ts";
import { linearOf, readOperand, writeOperand } from "../system/operands.ts";
import { kindOf, type Processor } from "../system/processor.ts";
import type { Float80, Sign } from "./float80.ts";

/** The ten bytes of operand `index` as one number. */
export function readTen(cpu: Processor, instruction: Instruction, index: number): bigint {
  const operand = instruction.operands[index]!;
  cpu.load(linearOf(cpu, instruction, operand, 10, false), 10, kindOf(operand.segment));
  return cpu.state.get64(State.transfer) | (BigInt(cpu.state.get32(State.transfer + 8) & 0xffff) << 64n);
}

/** Writes the significand first: processors do so, and it stays written where the sign and exponent then fault. */
export function writeTen(cpu: Processor, instruction: Instruction, index: number, bits: bigint): void {
  const operand = instruction.operands[index]!;
  const address = linearOf(cpu, instruction, operand, 10, true);
  const kind = kindOf(operand.segment);
  const behind = address + 8;
  cpu.write64(address, BigInt.asUintN(64, bits), kind);
  cpu.write(cpu.bits64 || behind < 2 ** 32 ? behind : behind - 2 ** 32, 2, Number(bits >> 64n), kind);
}

export function fromBits(bits: bigint): Float80 {
  const high = Number(bits >> 64n);
  return { sign: (high >>> 15) as Sign, exponent: high & 0x7fff, significand: BigInt.asUintN(64, bits) };
}

export function toBits({ sign, exponent, significand }: Float80): bigint {
  return (BigInt((sign << 15) | exponent) << 64n) | significand;
}

/** A signed integer operand. */
export function readInteger(cpu: Processor, instruction: Instruction, index: number): bigint {
  return BigInt.asIntN(instruction.operands[index]!.size * 8, readOperand(cpu, instruction, index));
}

/** Operand `index` of 2, 4, 8 or 10 bytes. */
export function writeBits(cpu: Processor, instruction: Instruction, index: number, bits: bigint): void {
  if (instruction.operands[index]!.size === 10) writeTen(cpu, instruction, index, bits);
  else writeOperand(cpu, instruction, index, bits);
}
