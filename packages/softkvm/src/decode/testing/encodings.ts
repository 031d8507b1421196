/** Made-up instruction bytes for tests: every opcode of every map, with random prefixes, operands and tails. */

import { type Form, Key } from "../form.ts";
import type { CodeSize } from "../instruction.ts";
import { FORMS } from "../opcode-map.ts";

type Random = (limit: number) => number;

/** A small repeatable generator (mulberry32) of integers below `limit`. */
export function randomSource(seed: number): Random {
  let state = seed | 0;
  return (limit) => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) % limit;
  };
}

const LEGACY_PREFIXES = [0x66, 0x66, 0xf2, 0xf3, 0x67, 0x26, 0x2e, 0x36, 0x3e, 0x64, 0x65, 0xf0];
const LENGTH = 15;

/**
 * `rounds` times every opcode of the maps without VEX and with it, as many of wholly random bytes as of one map, and one
 * encoding of every form.
 */
export function* encodings(seed: number, bits: CodeSize, rounds: number): Generator<Uint8Array> {
  const random = randomSource(seed);
  for (let round = 0; round < rounds; round++) {
    for (let opcode = 0; opcode < 256; opcode++) {
      for (const escapes of [[], [0x0f], [0x0f, 0x38], [0x0f, 0x3a]]) {
        yield fill([...prefixes(random, bits), ...escapes, opcode], random);
      }
      for (const map of [1, 2, 3]) yield fill([...vexPrefix(random, bits, map), opcode], random);
      yield fill([], random);
    }
    for (const form of FORMS) {
      if (form.modes === "all" || (form.modes === "long") === (bits === 64)) yield encodingOf(form, bits, random);
    }
  }
}

function prefixes(random: Random, bits: CodeSize): number[] {
  const count = [0, 0, 0, 1, 1, 1, 1, 2, 2, 3][random(10)]!;
  const bytes = Array.from({ length: count }, () => LEGACY_PREFIXES[random(LEGACY_PREFIXES.length)]!);
  if (bits === 64 && random(3) === 0) bytes.push(0x40 + random(16));
  return bytes;
}

/** With vvvv mostly unused, as most instructions want it, and outside 64-bit mode with R and X set, else it is LES. */
function vexPrefix(random: Random, bits: CodeSize, map: number): number[] {
  const before = random(8) === 0 ? prefixes(random, bits) : random(8) === 0 ? [0x65, 0x67][random(2)]! : [];
  const vvvv = random(2) ? 0x78 : random(16) << 3;
  const last = (random(2) << 7) | vvvv | (random(2) << 2) | random(4);
  const extension = bits === 64 ? random(8) << 5 : 0xe0;
  if (map === 1 && random(2)) return [before, 0xc5, bits === 64 ? last : last | 0xc0].flat();
  return [before, 0xc4, extension | map, last].flat();
}

/** The bytes in front of the opcode; of VEX the map's number. */
export const ESCAPES: Readonly<Record<Form["map"], readonly number[]>> = {
  one: [],
  "0f": [0x0f],
  "0f38": [0x0f, 0x38],
  "0f3a": [0x0f, 0x3a],
  "vex.0f": [1],
  "vex.0f38": [2],
  "vex.0f3a": [3],
};

/** Bytes that are this form, with random operands: enough for the longest, the rest is up to chance. */
export function encodingOf(form: Form, bits: CodeSize, random: Random): Uint8Array {
  const choose = (bit: number) => (form.mask & bit ? (form.value & bit) !== 0 : random(2) !== 0);
  const allowed = [Key.NP, Key.P66, Key.PF3, Key.PF2].map((key) => (form.mask & key) === 0);
  let prefix = random(4);
  while (!allowed[prefix]) prefix = random(4);
  let modrm = ((random(256) & ~form.mask) | form.value) & 0xff;
  if (form.mask & Key.REGISTER) modrm = form.value & Key.REGISTER ? modrm | 0xc0 : (modrm & 0x3f) | (random(3) << 6);
  // A gather's index stands in the SIB byte (SDM vol. 2, 2.3.12).
  if (form.vsib) modrm = (modrm & ~7) | 4;
  const opcode = form.byte + random(form.opcodes);
  const rest = form.hasModrm ? [opcode, modrm] : [opcode];
  const escapes = ESCAPES[form.map];
  if (form.map.startsWith("vex")) {
    const vvvv = form.usesVvvv ? random(16) << 3 : 0x78;
    const last = (choose(Key.W) ? 0x80 : 0) | vvvv | (choose(Key.L) ? 4 : 0) | prefix;
    return fill([0xc4, (bits === 64 ? random(8) << 5 : 0xe0) | escapes[0]!, last, ...rest], random);
  }
  const mandatory = [[], [0x66], [0xf3], [0xf2]][prefix]!;
  const other = [[], [0x65], [0x67], [0x2e]][random(4)]!;
  const rex = 0x40 | (choose(Key.W) ? 8 : 0) | (random(4) << 1) | (choose(Key.REX_B) ? 1 : 0);
  const needsRex = (form.value & Key.W) !== 0;
  const withRex = bits === 64 && (needsRex || random(2)) ? [rex] : [];
  return fill([...other, ...mandatory, ...withRex, ...escapes, ...rest], random);
}

/** With a random tail, to the longest that an instruction may be. */
function fill(start: number[], random: Random): Uint8Array {
  const bytes = new Uint8Array(LENGTH);
  for (let i = 0; i < LENGTH; i++) bytes[i] = start[i] ?? random(256);
  return bytes;
}
