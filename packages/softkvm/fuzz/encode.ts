/** Random bytes that encode an instruction's form. */

import { type Form, Key, Source } from "../src/decode/form.ts";
import type { CodeSize } from "../src/decode/instruction.ts";
import { ESCAPES } from "../src/decode/testing/encodings.ts";
import type { Random } from "./random.ts";

/** The bytes of an encoding, and where in them its parts are; -1 for none. */
export interface Encoding {
  bytes: number[];
  displacement: number;
  displacementSize: number;
  /** What follows ModRM, SIB and displacement. */
  immediate: number;
}

const SEGMENTS = [0x26, 0x2e, 0x36, 0x3e, 0x64, 0x65, 0x64, 0x65];
/** Where 32-bit code is emulated, a write by way of CS faults later than on the processor. */
const SEGMENTS_OF_DATA = [0x26, 0x36, 0x3e, 0x64, 0x65];
export const PREFIXES: ReadonlySet<number> = new Set([...SEGMENTS, 0x66, 0x67, 0xf0, 0xf2, 0xf3]);
const MANDATORY: readonly [key: number, byte: number][] = [
  [Key.NP, 0],
  [Key.P66, 0x66],
  [Key.PF3, 0xf3],
  [Key.PF2, 0xf2],
];

export const isString = (form: Form) =>
  form.operands.some(({ source }) => source === Source.ES_DI || source === Source.AT_REGISTER);

/** Random bytes that encode a form, mostly. `ripOnly`: memory operands are RIP-relative. */
export function encode(random: Random, form: Form, bits: CodeSize, ripOnly = false): Encoding {
  const bytes: number[] = [];
  const isVex = form.map.startsWith("vex");
  const anyPrefix = [Key.NP, Key.P66, Key.PF3, Key.PF2].every((key) => (form.mask & key) === 0);
  const allowed = MANDATORY.filter(([key]) => (form.mask & key) === 0);
  const [, mandatory] = random.pick(allowed);

  const prefixes: number[] = [];
  if (random.once(5)) prefixes.push(random.pick(bits === 64 ? SEGMENTS : SEGMENTS_OF_DATA));
  if (random.once(8)) prefixes.push(0x67);
  if (!isVex) {
    if (anyPrefix && random.once(4)) prefixes.push(0x66);
    if (anyPrefix && random.once(isString(form) ? 2 : 12)) prefixes.push(random.pick([0xf2, 0xf3]));
    if (!anyPrefix && mandatory !== 0) prefixes.push(mandatory);
    if (!anyPrefix && mandatory !== 0x66 && random.once(8)) prefixes.push(0x66);
    if (random.once(form.lockable ? 4 : 100)) prefixes.push(0xf0);
    if (random.once(60)) prefixes.push(random.pick([...prefixes, 0x66, 0x3e]));
  }
  for (let left = prefixes.length; left > 1; left--) {
    const other = random.below(left);
    [prefixes[left - 1], prefixes[other]] = [prefixes[other]!, prefixes[left - 1]!];
  }
  bytes.push(...prefixes);

  const wide = (form.mask & Key.W) !== 0 ? (form.value & Key.W) !== 0 : random.below(3) === 0;
  if (isVex) pushVex(random, form, bits, bytes, mandatory, wide);
  else {
    if (bits === 64 && (wide || random.below(2) === 0)) {
      let rex = 0x40 | (wide ? 8 : 0) | random.below(8);
      if (form.mask & Key.REX_B) rex &= ~1;
      bytes.push(rex);
    }
    bytes.push(...ESCAPES[form.map]);
  }
  bytes.push(form.byte + (form.opcodes > 1 ? random.below(form.opcodes) : 0));
  const encoding = { bytes, displacement: -1, displacementSize: 0, immediate: bytes.length };
  if (form.hasModrm) pushModrm(random, form, bits, encoding, prefixes.includes(0x67), ripOnly);
  encoding.immediate = bytes.length;
  // More than any immediate needs; the decoder says how much belongs to the instruction.
  let immediate = random.once(3) ? random.wide() : random.value(0);
  for (let index = 0; index < 10; index++) {
    bytes.push(Number(immediate & 0xffn));
    immediate >>= 8n;
  }
  return encoding;
}

function pushVex(random: Random, form: Form, bits: CodeSize, bytes: number[], mandatory: number, wide: boolean): void {
  const pp = [0, 0x66, 0xf3, 0xf2].indexOf(mandatory);
  const long = (form.mask & Key.L) !== 0 ? (form.value & Key.L) !== 0 : random.below(2) === 0;
  const vvvv = form.usesVvvv || random.once(50) ? random.below(16) : 0;
  const [map] = ESCAPES[form.map];
  const last = ((~vvvv & 15) << 3) | (long ? 4 : 0) | pp;
  if (map === 1 && !wide && random.below(2) === 0) {
    bytes.push(0xc5, (bits === 64 ? random.below(2) << 7 : 0x80) | (bits === 64 ? last : last | 0x40));
    return;
  }
  const extensions = bits === 64 ? random.below(8) << 5 : 0xe0;
  bytes.push(0xc4, extensions | map!, (wide ? 0x80 : 0) | last);
}

function pushModrm(
  random: Random,
  form: Form,
  bits: CodeSize,
  out: Encoding,
  shortAddress: boolean,
  ripOnly: boolean,
): void {
  const { bytes } = out;
  const fixed = form.mask & 0xff;
  let modrm = (random.below(256) & ~fixed) | (form.value & fixed);
  if ((fixed & 0xc0) === 0) {
    const register = form.mask & Key.REGISTER ? (form.value & Key.REGISTER) !== 0 : random.below(5) < 2;
    modrm = (modrm & 0x3f) | (register ? 0xc0 : random.below(3) << 6);
  }
  if (ripOnly && modrm < 0xc0) modrm = (modrm & 0x38) | 5;
  bytes.push(modrm);
  const mod = modrm >> 6;
  const rm = modrm & 7;
  if (mod === 3 || form.ignoresMod) return;
  const size16 = bits === 16 ? !shortAddress : bits === 32 && shortAddress;
  let size = mod === 1 ? 1 : mod === 2 ? (size16 ? 2 : 4) : 0;
  if (size16) {
    if (mod === 0 && rm === 6) size = 2;
  } else {
    let base = rm;
    if (rm === 4) {
      const sib = random.below(256);
      bytes.push(sib);
      base = sib & 7;
    }
    if (mod === 0 && base === 5) size = 4;
  }
  out.displacement = bytes.length;
  out.displacementSize = size;
  let displacement = random.once(3) ? random.word() : random.below(256) - 128;
  for (let index = 0; index < size; index++) {
    bytes.push(displacement & 0xff);
    displacement >>= 8;
  }
}
