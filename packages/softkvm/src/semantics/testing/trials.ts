/** Random instructions of the vector extensions with values that are apt to go wrong. */

import { type Form, Key } from "../../decode/form.ts";
import { FORMS } from "../../decode/opcode-map.ts";
import { randomSource } from "../../decode/testing/encodings.ts";
import { DATA, newMachine, type Trial } from "./native.ts";

const EXTENSIONS = new Set([
  ...["mmx", "sse", "sse2", "pni", "ssse3", "sse4_1", "sse4_2", "aes", "pclmulqdq", "sha_ni"],
  ...["clflush", "clflushopt", "clwb", "avx", "avx2", "fma", "f16c"],
]);

/** The encodings to try: one for each form, two where an operand may be a register or memory. */
export const VECTOR_FORMS: readonly Form[] = FORMS.filter(({ feature }) => EXTENSIONS.has(feature));

type Random = (limit: number) => number;

const SINGLES = [
  ...[0x00000000, 0x3f800000, 0x40000000, 0x3f000000, 0x40490fdb, 0x7f800000, 0x7fc00000, 0x7fc12345, 0x7f800001],
  ...[0x7fa00000, 0x00000001, 0x007fffff, 0x00800000, 0x00800001, 0x01000000, 0x7f7fffff, 0x7f000000, 0x4b000000],
  ...[0x4b7fffff, 0x4effffff, 0x4f000000, 0x5f000000, 0x5effffff, 0x3fc00000, 0x40200000, 0x3effffff, 0x33800000],
  ...[0x1f800000, 0x20000000, 0x00400000, 0x34000000, 0x7e800000, 0x7e800001, 0x00200000],
];
const DOUBLES = [
  ...[0x0000000000000000n, 0x3ff0000000000000n, 0x4000000000000000n, 0x3fe0000000000000n, 0x400921fb54442d18n],
  ...[0x7ff0000000000000n, 0x7ff8000000000000n, 0x7ff8000012345678n, 0x7ff0000000000001n, 0x7ff4000000000000n],
  ...[0x0000000000000001n, 0x000fffffffffffffn, 0x0010000000000000n, 0x0010000000000001n, 0x0020000000000000n],
  ...[0x7fefffffffffffffn, 0x7fe0000000000000n, 0x4330000000000000n, 0x433fffffffffffffn, 0x41dfffffffc00000n],
  ...[0x41e0000000000000n, 0x41dfffffffe00000n, 0x41dfffffffd00000n, 0x41e0000000100000n, 0x43e0000000000000n],
  ...[0x3ff8000000000000n, 0x4004000000000000n, 0x47efffffe0000000n, 0x47effffff0000000n, 0x3810000000000000n],
  ...[0x380fffffffffffffn, 0x380fffffe0000000n, 0x36a0000000000000n, 0x3690000000000000n, 0x1ff0000000000000n],
  ...[0x47f0000000000000n, 0x36b0000000000000n, 0x380ffffff0000000n, 0x3ca0000000000000n],
];
const BYTES = [0, 1, 0x7f, 0x80, 0xff, 0x55, 0xaa, 0xfe];

/** Sixteen bytes: lanes of one kind. */
function vector(random: Random): Uint8Array {
  const bytes = new Uint8Array(16);
  const view = new DataView(bytes.buffer);
  const kind = random(9);
  const sign = () => random(2) * 2 ** 31;
  for (let at = 0; at < 16; at += 8) {
    for (let half = at; half < at + 8; half += 4) {
      if (kind <= 1) view.setUint32(half, (SINGLES[random(SINGLES.length)]! | sign()) >>> 0, true);
      // Numbers of like size, of few bits or many.
      if (kind === 2) view.setFloat32(half, (random(64) - 32) / 4, true);
      if (kind === 3) view.setFloat32(half, (random(2 ** 24) - 2 ** 23) * 2 ** (random(9) - 20), true);
    }
    if (kind === 4 || kind === 5) {
      view.setBigUint64(at, DOUBLES[random(DOUBLES.length)]! | (BigInt(random(2)) << 63n), true);
    }
    if (kind === 6) {
      view.setFloat64(
        at,
        random(2) ? (random(64) - 32) / 4 : (random(2 ** 31) - 2 ** 30) * 2 ** (random(60) - 40),
        true,
      );
    }
    for (let byte = at; byte < at + 8; byte++) {
      if (kind === 7) bytes[byte] = random(256);
      if (kind === 8) bytes[byte] = BYTES[random(BYTES.length)]!;
    }
  }
  return bytes;
}

/** Mostly what programs have, else any rounding, masks, FTZ and DAZ. */
function mxcsr(random: Random): number {
  const flags = random(2) ? 0x20 : random(64);
  if (random(2)) return 0x1f80 | flags;
  const rounding = random(4) << 13;
  const flush = (random(3) === 0 ? 0x8000 : 0) | (random(3) === 0 ? 0x40 : 0);
  const masks = random(3) ? 0x1f80 : random(64) << 7;
  return rounding | flush | masks | flags;
}

const RBX = 3;
const RDI = 7;
const OPCODE = /^(\S+) (?:([np63f2,]+)\.)?([0-9a-f]{2})(?:\/([0-7])|:([0-9a-f]{2}))?$/;
const PREFIXES: Record<string, number[]> = { np: [], "66": [0x66], f3: [0xf3], f2: [0xf2] };
const MAPS: Record<string, number[]> = { "0f": [0x0f], "0f38": [0x0f, 0x38], "0f3a": [0x0f, 0x3a] };
const VEX_MAPS: Record<string, number> = { "vex.0f": 1, "vex.0f38": 2, "vex.0f3a": 3 };

/** MASKMOVQ and MASKMOVDQU write to rDI. */
const writesToRdi = ({ mnemonic }: Form) => /^v?maskmov(q|dqu)$/.test(mnemonic);
const hasImmediate = ({ operands }: Form) => operands.some(({ text }) => text === "Ib" || text[0] === "L");

/** The form with VEX in 64-bit code. Memory is at RBX, and the indexes of a gather are in xmm1. */
function encodeVex(form: Form, random: Random): Uint8Array {
  const [, , prefixes = "np", byte, reg] = OPCODE.exec(form.opcode) ?? [];
  const pp = ["np", "66", "f3", "f2"].indexOf(prefixes);
  const places = form.operands.map(({ text }) => text[0]!);
  const bit = (key: number) => ((form.mask & key) === 0 ? random(2) : form.value & key ? 1 : 0);
  const memory = (form.mask & Key.REGISTER) === 0 ? random(2) === 0 : (form.value & Key.REGISTER) === 0;
  /** Not RSP where it is a general register. */
  const pick = (place: string) => (places.includes(place) ? [0, 1, 2, 3, 5, 6, 7, 9, 15][random(9)]! : random(16));
  let field = reg === undefined ? pick("G") : Number(reg);
  const rm = places.includes("E") || places.includes("R") ? pick("E") : random(16);
  let vvvv = form.usesVvvv ? random(16) : 0;
  if (form.vsib) [field, vvvv] = [2 + random(7), 9 + random(7)];
  const extensions = ((field & 8 ? 0 : 0x80) | 0x40 | (!memory && rm & 8 ? 0 : 0x20)) >>> 0;
  const code = [0xc4, extensions | VEX_MAPS[form.map]!];
  code.push((bit(Key.W) << 7) | ((~vvvv & 15) << 3) | (bit(Key.L) << 2) | pp, Number.parseInt(byte!, 16));
  const modrm = (field & 7) << 3;
  if (form.vsib) code.push(0x44 | modrm, (random(4) << 6) | (1 << 3) | RBX, random(64));
  else if (!form.hasModrm) return Uint8Array.from(code);
  else if (memory) code.push(0x43 | modrm, random(3) === 0 ? random(64) : random(4) * 32);
  else code.push(0xc0 | modrm | (rm & 7));
  if (hasImmediate(form)) code.push(random(256));
  return Uint8Array.from(code);
}

/** The form in 64-bit code. Memory is at RBX or, where the form says so, at RDI. */
function encode(form: Form, random: Random): Uint8Array {
  if (form.map.startsWith("vex")) return encodeVex(form, random);
  const [, , prefixes = "np", byte, reg, modrm] = OPCODE.exec(form.opcode) ?? [];
  const choices = prefixes.split(",");
  const code = [...PREFIXES[choices[random(choices.length)]!]!];
  const places = form.operands.map(({ text }) => text[0]!);
  const onlyRegister = places.some((place) => "UNR".includes(place)) || modrm !== undefined;
  const onlyMemory = places.includes("M");
  const memory = !onlyRegister && (onlyMemory || random(2) === 0);
  const rex = random(3) === 0 ? 0x40 | random(16) : 0;
  // Without RSP as an operand; and memory by RBX.
  const usable = [0, 1, 2, 3, 5, 6, 7];
  const general = (place: string) => places.some((other) => other === place);
  let registerField = reg === undefined ? random(8) : Number(reg);
  if (general("G")) registerField = usable[random(7)]!;
  let rm = general("E") || general("R") ? usable[random(7)]! : random(8);
  if (writesToRdi(form)) rm = random(8);
  if (rex !== 0) code.push(memory ? rex & ~3 : rex);
  code.push(...MAPS[form.map]!, Number.parseInt(byte!, 16));
  if (modrm !== undefined) code.push(Number.parseInt(modrm, 16));
  else if (!form.hasModrm) return Uint8Array.from(code);
  else if (form.operands.length === 0) code.push(0xc0 | (registerField << 3));
  else if (memory) code.push(0x43 | (registerField << 3), random(5) === 0 ? random(64) : random(8) * 16);
  else code.push(0xc0 | (registerField << 3) | rm);
  if (hasImmediate(form)) code.push(random(256));
  return Uint8Array.from(code);
}

/** Small indexes, of four bytes or, for vgatherq and vpgatherq, eight. */
function setIndexes({ mnemonic }: Form, random: Random, half: Uint8Array): void {
  const wide = /gatherq/.test(mnemonic);
  const view = new DataView(half.buffer, half.byteOffset, 16);
  for (let at = 0; at < 16; at += 4) view.setInt32(at, wide && at & 4 ? 0 : random(20), true);
}

export function trialOf(form: Form, seed: number): Trial {
  const random = randomSource(seed);
  const machine = newMachine();
  const { fx, upper, gpr, data } = machine;
  const view = new DataView(fx.buffer);
  view.setUint16(0, 0x37f, true);
  view.setUint16(2, random(8) << 11, true);
  fx[4] = random(2) ? 0 : random(256);
  view.setUint32(24, mxcsr(random), true);
  for (let at = 32; at < 416; at += 16) {
    // Often the same value twice, so that comparisons find something.
    if (random(4) === 0 && at > 32) fx.copyWithin(at, at - 16, at);
    else fx.set(vector(random), at);
    if (at < 160) fx.fill(0, at + 10, at + 16);
  }
  for (let at = 0; at < upper.length; at += 16) upper.set(vector(random), at);
  // A gather is to find memory.
  if (form.vsib) for (const half of [fx.subarray(176, 192), upper.subarray(16, 32)]) setIndexes(form, random, half);
  for (let at = 0; at < data.length; at += 16) data.set(vector(random), at);
  for (let index = 0; index < 16; index++) {
    const bits = [1n, 8n, 31n, 32n, 33n, 63n, 64n][random(7)]!;
    const value = (BigInt(random(2 ** 32)) << 32n) | BigInt(random(2 ** 32));
    gpr[index] = random(3) ? BigInt.asUintN(Number(bits), value) : BigInt.asUintN(64, BigInt(random(40) - 20));
  }
  gpr[4] = 0n;
  gpr[RBX] = BigInt(DATA);
  if (writesToRdi(form)) gpr[RDI] = BigInt(DATA + random(64));
  machine.flags = BigInt(0x202 | (random(2) ? 0x8d5 & random(0x1000) : 0));
  return { ...machine, code: encode(form, random) };
}
