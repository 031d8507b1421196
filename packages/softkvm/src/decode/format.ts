/**
 * An instruction as text, in Intel's syntax as `objdump -M intel` writes it, without padding:
 * `add DWORD PTR [rax+rcx*4-0x8],0x10`. For tests, reproducers and golden files.
 */

import { formatMnemonic } from "./format-mnemonic.ts";
import type { Instruction, Operand } from "./instruction.ts";

const GPR_NAMES: Record<number, readonly string[]> = {
  1: ["al", "cl", "dl", "bl", "spl", "bpl", "sil", "dil"],
  2: ["ax", "cx", "dx", "bx", "sp", "bp", "si", "di"],
  4: ["eax", "ecx", "edx", "ebx", "esp", "ebp", "esi", "edi"],
  8: ["rax", "rcx", "rdx", "rbx", "rsp", "rbp", "rsi", "rdi"],
};
const GPR_SUFFIX: Record<number, string> = { 1: "b", 2: "w", 4: "d", 8: "" };
const HIGH_NAMES = ["ah", "ch", "dh", "bh"];
const SEGMENT_NAMES = ["es", "cs", "ss", "ds", "fs", "gs"];
const SIZE_NAMES: Record<number, string> = {
  1: "BYTE",
  2: "WORD",
  4: "DWORD",
  6: "FWORD",
  8: "QWORD",
  10: "TBYTE",
  16: "XMMWORD",
  32: "YMMWORD",
};

/** `address` is that of the instruction's first byte; targets of jumps are written absolute. */
export function format(instruction: Instruction, address = 0n): string {
  const operands: string[] = [];
  const { mnemonic, hidden, dropFirst } = formatMnemonic(instruction);
  for (let i = 0; i < instruction.operandCount; i++) {
    if (i === hidden || (i === 0 && dropFirst)) continue;
    operands.push(formatOperand(instruction, instruction.operands[i as 0], address));
  }
  const prefix = instruction.lock ? "lock " : formatRepeat(instruction);
  return `${prefix}${mnemonic} ${operands.join(",")}`.trimEnd();
}

const REPEATED = new Set(["movs", "stos", "lods", "ins", "outs"]);
const REPEATED_WHILE = new Set(["cmps", "scas"]);

function formatRepeat({ form, rep }: Instruction): string {
  if (rep === 0) return "";
  if (REPEATED_WHILE.has(form.mnemonic)) return rep === 0xf3 ? "repz " : "repnz ";
  if (REPEATED.has(form.mnemonic)) return rep === 0xf3 ? "rep " : "repnz ";
  return "";
}

export function formatRegister(operand: Operand): string {
  const { bank, reg, size } = operand;
  switch (bank) {
    case "gpr":
      return operand.high ? HIGH_NAMES[reg]! : gprName(reg, size);
    case "seg":
      return SEGMENT_NAMES[reg]!;
    case "st":
      return reg === 0 ? "st" : `st(${reg})`;
    default:
      return `${bank}${reg}`;
  }
}

function gprName(reg: number, size: number): string {
  return reg < 8 ? GPR_NAMES[size]![reg]! : `r${reg}${GPR_SUFFIX[size]}`;
}

function formatOperand(instruction: Instruction, operand: Operand, address: bigint): string {
  switch (operand.kind) {
    case "reg":
      return formatRegister(operand);
    case "mem":
      return formatMemory(instruction, operand);
    case "imm":
      if (instruction.form.operands.some((spec) => spec.text === "1")) return "1";
      return hex(BigInt.asUintN(operand.size * 8, operand.value64));
    case "rel": {
      const bits = instruction.bits === 64 ? 64 : instruction.operandSize;
      return hex(BigInt.asUintN(bits, address + BigInt(instruction.length) + BigInt(operand.value)));
    }
    case "far":
      return `${hex(BigInt(operand.selector))}:${hex(BigInt(operand.value))}`;
  }
}

function formatMemory(instruction: Instruction, operand: Operand): string {
  const sizeName = SIZE_NAMES[operand.size];
  const prefix = sizeName ? `${sizeName} PTR ` : "";
  const width = instruction.addressSize / 8;
  const parts: string[] = [];
  if (operand.ripRelative) parts.push(width === 4 ? "eip" : "rip");
  if (operand.base >= 0) parts.push(gprName(operand.base, width));
  if (operand.index >= 0) {
    const index = operand.bank === "gpr" ? gprName(operand.index, width) : `${operand.bank}${operand.index}`;
    // 16-bit addresses have no scale.
    parts.push(width === 2 ? index : `${index}*${1 << operand.scale}`);
  }
  const override = instruction.segmentOverride;
  if (parts.length === 0) {
    const segment = SEGMENT_NAMES[operand.segment];
    return `${prefix}${segment}:${hex(BigInt.asUintN(instruction.addressSize, operand.disp64))}`;
  }
  if (operand.disp !== 0) {
    const negative = operand.disp < 0 && !operand.ripRelative;
    const magnitude = negative ? -operand.disp64 : BigInt.asUintN(64, operand.disp64);
    parts[parts.length - 1] += `${negative ? "-" : "+"}${hex(magnitude)}`;
  }
  const isString = instruction.form.operands.some((spec) => spec.text.startsWith("X") || spec.text.startsWith("Y"));
  const shown = isString || instruction.form.mnemonic === "xlat" || override >= 0;
  const segment = shown ? `${SEGMENT_NAMES[operand.segment]}:` : "";
  return `${prefix}${segment}[${parts.join("+")}]`;
}

function hex(value: bigint): string {
  return `0x${value.toString(16)}`;
}
