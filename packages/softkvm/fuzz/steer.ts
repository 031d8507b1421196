/** Registers, displacements and data of a case such that its operands and branches lead to interesting places, mostly. */

import type { Instruction, Operand } from "../src/decode/instruction.ts";
import { codeAddress, exitCode, type FuzzCase } from "./case.ts";
import { type Encoding, isString } from "./encode.ts";
import { CODE_BYTES, DATA_BYTES, HIGH_ALIAS, linearOf, SlotPages } from "./layout.ts";
import type { Random } from "./random.ts";

/** In the code pages: a jump to exit 1, for branches to absolute addresses. */
export const LANDING = 0x100;
export const RSP = 4;

const mask = (bits: number, value: bigint) => BigInt.asUintN(bits, value);

/** Makes memory operands and branches lead to interesting places, mostly. */
export function steer(
  random: Random,
  fuzzCase: FuzzCase,
  encoding: Encoding,
  instruction: Instruction,
  at: number,
): void {
  const { slot, gpr } = fuzzCase;
  const { form } = instruction;
  const next = BigInt(codeAddress(slot, at + instruction.length));
  for (let index = 0; index < instruction.operandCount; index++) {
    const operand = instruction.operands[index]!;
    if (operand.kind === "mem" && !random.once(24)) {
      let target = random.pointer(slot, Math.max(1, operand.size), fuzzCase.bits !== 64);
      // A processor that moves strings in large pieces does not see that two linear addresses overlap in memory.
      if (instruction.rep !== 0 && isString(form) && target > HIGH_ALIAS && target < 2n * HIGH_ALIAS)
        target -= HIGH_ALIAS;
      steerMemory(fuzzCase, encoding, instruction, operand, target, next);
      if (form.flow !== "next") aimWord(random, fuzzCase, target);
    } else if (operand.kind === "reg" && form.flow !== "next") {
      if (operand.bank === "gpr") gpr[operand.reg] = branchTarget(random, slot);
    } else if (operand.kind === "rel") steerBranch(random, fuzzCase, encoding, instruction, at);
  }
  if (form.flow === "return") aimWord(random, fuzzCase, gpr[RSP]!);
  if (form.mnemonic === "popf") popFlags(random, fuzzCase);
  if (form.mnemonic === "leave" && !random.once(10)) gpr[5] = random.pointer(slot, 8);
  // Small bit numbers, so that bit strings stay near; small counts, so that strings end before a fault.
  const [first, second] = instruction.operands;
  if (form.mnemonic.startsWith("bt") && first.kind === "mem" && second.kind === "reg" && !random.once(6)) {
    if (second.reg !== first.base) gpr[second.reg] = BigInt.asUintN(64, BigInt(random.below(65536) - 32768));
  }
  if (instruction.rep !== 0 && isString(form) && random.below(4) < 3) gpr[1] = BigInt(random.below(40));
}

/** Most often code that leaves; else wherever a value leads. */
function branchTarget(random: Random, slot: number): bigint {
  return random.below(4) < 3 ? BigInt(codeAddress(slot, LANDING)) : random.value(slot);
}

/** Puts a branch target into the data at a linear address. */
function aimWord(random: Random, fuzzCase: FuzzCase, linear: bigint): void {
  const { slot } = fuzzCase;
  const at = dataOffset(slot, linear);
  if (at !== undefined) fuzzCase.data.words.push({ at, value: branchTarget(random, slot) });
}

/** Where in a slot's data a linear address with room for 8 bytes is. */
function dataOffset(slot: number, linear: bigint): number | undefined {
  const start = BigInt(linearOf(slot, SlotPages.data.linear));
  const at = linear - (linear >= HIGH_ALIAS ? start + HIGH_ALIAS : start);
  return at >= 0n && at <= DATA_BYTES - 8 ? Number(at) : undefined;
}

/** TF would trap behind the instruction, and AC makes unaligned accesses fault where KVM runs ring 3 under the host's CR0. */
function popFlags(random: Random, fuzzCase: FuzzCase): void {
  const at = dataOffset(fuzzCase.slot, fuzzCase.gpr[RSP]!);
  if (at !== undefined) fuzzCase.data.words.push({ at, value: BigInt(random.word()) & ~0x40100n });
}

function steerMemory(
  fuzzCase: FuzzCase,
  encoding: Encoding,
  instruction: Instruction,
  operand: Operand,
  target: bigint,
  next: bigint,
): void {
  const { gpr } = fuzzCase;
  const bits = instruction.addressSize;
  const base = operand.segment === 4 ? fuzzCase.fsBase : operand.segment === 5 ? fuzzCase.gsBase : 0n;
  const offset = target - base;
  const index = operand.bank === "gpr" && operand.index >= 0 ? gpr[operand.index]! << BigInt(operand.scale) : 0n;
  if (operand.base >= 0) {
    // With one register in both places, where it leads is chance.
    if (operand.base === operand.index) return;
    const value = mask(bits, offset - index - operand.disp64);
    gpr[operand.base] = bits === 64 ? value : (gpr[operand.base]! & ~mask(bits, -1n)) | value;
    return;
  }
  if (operand.index >= 0 && operand.scale === 0) {
    gpr[operand.index] = mask(bits, offset - operand.disp64);
    return;
  }
  const view = new DataView(new ArrayBuffer(8));
  const displacement = offset - index - (operand.ripRelative ? next : 0n);
  view.setBigUint64(0, mask(64, displacement), true);
  const where = encoding.displacement >= 0 ? encoding.displacement : encoding.immediate;
  const size = encoding.displacement >= 0 ? encoding.displacementSize : bits / 8;
  for (let byte = 0; byte < size; byte++) encoding.bytes[where + byte] = view.getUint8(byte);
}

/** A near branch goes to a piece of code that leaves by exit 1; one of four bytes may also go anywhere. */
function steerBranch(
  random: Random,
  fuzzCase: FuzzCase,
  encoding: Encoding,
  instruction: Instruction,
  at: number,
): void {
  const { slot, bits } = fuzzCase;
  const where = encoding.immediate;
  const size = instruction.length - where;
  const after = at + instruction.length;
  let distance = 16 + random.below(96);
  // Not into the instruction itself, where other bytes begin than were compared.
  if (random.once(2)) distance = -30 - random.below(90);
  if (size >= 2) distance *= 1 + random.below(4);
  if (size === 4 && random.once(8)) distance = random.word() | 0x40000000;
  else if (after + distance + 8 <= CODE_BYTES && after + distance >= 0) {
    fuzzCase.code.push({ at: after + distance, bytes: exitCode(slot, bits, 1, after + distance) });
  }
  for (let byte = 0; byte < size; byte++) encoding.bytes[where + byte] = (distance >> (byte * 8)) & 0xff;
}
