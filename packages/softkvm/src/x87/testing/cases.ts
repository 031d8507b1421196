/** Random cases: every x87 encoding, operands and states where something is special. */

import { Decoder } from "../../decode/decoder.ts";
import { format } from "../../decode/format.ts";
import { Instruction, Status } from "../../decode/instruction.ts";
import type { Random } from "./random.ts";
import { Field, RECORD } from "./record.ts";

export interface Encoding {
  readonly bytes: readonly number[];
  readonly mnemonic: string;
  readonly text: string;
}

/** All of d8 to df: registers, and memory at [rdi]. */
export function encodings(only?: ReadonlySet<string>): Encoding[] {
  const decoder = new Decoder();
  const instruction = new Instruction();
  const found: Encoding[] = [];
  const consider = (bytes: number[]) => {
    const code = Uint8Array.from(bytes);
    if (decoder.decode(code, 0, code.length, 64, instruction) !== Status.OK) return;
    const { mnemonic } = instruction.form;
    if (only !== undefined && !only.has(mnemonic)) return;
    found.push({ bytes, mnemonic, text: format(instruction) });
  };
  for (let opcode = 0xd8; opcode <= 0xdf; opcode++) {
    for (let reg = 0; reg < 8; reg++) {
      consider([opcode, (reg << 3) | 7]);
      // The operand size counts for states and environments only.
      if ((opcode === 0xd9 || opcode === 0xdd) && (reg & 5) === 4) consider([0x66, opcode, (reg << 3) | 7]);
    }
    for (let modrm = 0xc0; modrm < 0x100; modrm++) consider([opcode, modrm]);
  }
  consider([0x9b]);
  return found;
}

const INTEGER_BIT = 1n << 63n;

function significand(random: Random): bigint {
  const bits = random.bits64();
  switch (random.below(7)) {
    case 0:
      return INTEGER_BIT;
    case 1:
      return INTEGER_BIT | BigInt(1 + random.below(3));
    case 2:
      return 2n ** 64n - BigInt(1 + random.below(3));
    case 3:
      // Few bits on top: what fits 24 or 53, and what lies half-way between.
      return INTEGER_BIT | (bits & -(1n << BigInt(64 - 1 - random.below(63))) & (INTEGER_BIT - 1n));
    case 4:
      return INTEGER_BIT | (random.below(2) ? 1n << BigInt(random.below(63)) : bits >> BigInt(random.below(64)));
    default:
      return INTEGER_BIT | bits;
  }
}

/** Around where formats and functions have their limits. */
const exponents = [
  0x3fff, 0x3fff, 0x3ffe, 0x400e, 0x401e, 0x403e, 0x43fe, 0x3c01, 0x407e, 0x3f81, 0x7ffe, 1, 0x5ffe, 0x2001,
];

function exponent(random: Random, near: number): number {
  let value: number;
  switch (random.below(5)) {
    case 0:
      value = random.below(0x8000);
      break;
    case 1:
      value = near + random.below(9) - 4;
      break;
    case 2:
      value = near + random.below(140) - 70;
      break;
    case 3:
      value = exponents[random.below(exponents.length)]! + random.below(5) - 2;
      break;
    default:
      value = 0x3fff + random.below(70) - 3;
  }
  return Math.max(1, Math.min(0x7ffe, value));
}

function special(random: Random): { exponent: number; significand: bigint } {
  const bits = random.bits64();
  switch (random.below(10)) {
    case 0:
    case 1:
      return { exponent: 0, significand: 0n };
    case 2:
      return { exponent: 0, significand: bits >> BigInt(1 + random.below(63)) };
    case 3:
      return { exponent: 0, significand: bits | INTEGER_BIT };
    case 4:
    case 5:
      return { exponent: 0x7fff, significand: INTEGER_BIT };
    case 6:
      return {
        exponent: 0x7fff,
        significand: INTEGER_BIT | (1n << 62n) | (random.below(2) ? bits : BigInt(random.below(3))),
      };
    case 7:
      return { exponent: 0x7fff, significand: INTEGER_BIT | (bits & ~(1n << 62n)) | 1n };
    case 8:
      return { exponent: 0x7fff, significand: bits & ~INTEGER_BIT };
    default:
      return { exponent: 1 + random.below(0x7ffe), significand: bits & ~INTEGER_BIT };
  }
}

/** Exponents of a case's operands lie near each other most of the time. */
function fill80(random: Random, view: DataView, at: number, near: number): number {
  const value =
    random.below(6) === 0 ? special(random) : { exponent: exponent(random, near), significand: significand(random) };
  view.setBigUint64(at, value.significand, true);
  view.setUint16(at + 8, value.exponent | (random.below(2) << 15), true);
  return value.exponent;
}

function fillMemory(random: Random, view: DataView, at: number, mnemonic: string): void {
  for (let offset = 0; offset < 112; offset += 8) view.setBigUint64(at + offset, random.bits64(), true);
  if (mnemonic === "fbld") {
    for (let digit = 0; digit < 9; digit++) view.setUint8(at + digit, random.below(10) * 16 + random.below(10));
    return;
  }
  const kind = random.below(8);
  if (kind === 0) fill80(random, view, at, 0x3fff);
  else if (kind === 1)
    view.setFloat64(at, [0, -0, 1, Infinity, -Infinity, 0.5, 2 ** 52, 5e-324][random.below(8)]!, true);
  else if (kind === 2)
    view.setFloat32(at, [0, -0, 1, Infinity, -Infinity, 0.5, 2 ** 23, 1e-45][random.below(8)]!, true);
  else if (kind === 3) view.setFloat64(at, random.below(1000) - 500, true);
  else if (kind === 4) view.setFloat32(at, random.below(1000) - 500, true);
  else if (kind === 5) view.setUint16(at + 6, 0x3fe0 + random.below(0x20) + (random.below(2) << 15), true);
  else if (kind === 6) view.setBigInt64(at, BigInt(random.below(5) - 2), true);
}

export function writeCase(random: Random, { bytes, mnemonic }: Encoding, view: DataView, at: number): void {
  // All masked, most of the time as programs do.
  const masks = random.below(4) === 0 ? random.below(64) : 0x3f;
  view.setUint16(at + Field.fcw, masks | 0x40 | (random.below(16) << 8) | (random.below(16) === 0 ? 0x1000 : 0), true);
  const pending = random.below(16) === 0 ? random.below(64) : random.below(64) & masks;
  const status = pending | (random.below(0x100) << 8) | (random.below(2) << 6);
  view.setUint16(at + Field.fsw, status & 0x7f7f, true);
  const tags = [0xff, 0xff, 0x0f << ((status >> 11) & 7), random.below(256)][random.below(4)]!;
  view.setUint8(at + Field.ftw, (tags | (tags >> 8)) & 0xff);
  if (random.below(2)) {
    // Full enough to compute, with room for one more.
    const top = (status >> 11) & 7;
    view.setUint8(at + Field.ftw, 0xff & ~(1 << ((top + 7) & 7)));
  }
  view.setUint8(at + Field.length, bytes.length);
  view.setUint16(at + Field.fop, random.below(0x800), true);
  for (const [index, byte] of bytes.entries()) view.setUint8(at + Field.code + index, byte);
  let near = exponent(random, 0x3fff);
  for (let index = 0; index < 8; index++) {
    const made = fill80(random, view, at + Field.st + index * 10, near);
    if (made !== 0 && made !== 0x7fff) near = made;
  }
  // Equal magnitudes, so that differences vanish.
  if (random.below(16) === 0) {
    for (let byte = 0; byte < 9; byte++) {
      view.setUint8(at + Field.st + 10 + byte, view.getUint8(at + Field.st + byte));
    }
    view.setUint8(at + Field.st + 19, (view.getUint8(at + Field.st + 9) & 0x7f) | (random.below(2) << 7));
  }
  fillMemory(random, view, at + Field.memory, mnemonic);
  view.setBigUint64(at + Field.rax, random.bits64(), true);
  view.setBigUint64(at + Field.rflags, 0x202n | (random.bits64() & 0x8d5n), true);
  view.setBigUint64(at + Field.fip, random.bits64() >> 16n, true);
  view.setBigUint64(at + Field.fdp, random.bits64() >> 16n, true);
}

/** `count` cases in one buffer, each encoding in turn. */
export function makeCases(random: Random, list: readonly Encoding[], count: number): Uint8Array {
  const buffer = new Uint8Array(count * RECORD);
  const view = new DataView(buffer.buffer);
  for (let index = 0; index < count; index++) writeCase(random, list[index % list.length]!, view, index * RECORD);
  return buffer;
}
