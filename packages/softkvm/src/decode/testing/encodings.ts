/** Made-up instruction bytes for tests: every opcode of every map, with random prefixes, operands and tails. */

import type { CodeSize } from "../instruction.ts";

/** A small repeatable generator (mulberry32) of integers below `limit`. */
export function randomSource(seed: number): (limit: number) => number {
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

/** `rounds` times every opcode of the maps without VEX and with it, and as many of wholly random bytes as of one map. */
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
  }
}

function prefixes(random: (limit: number) => number, bits: CodeSize): number[] {
  const count = [0, 0, 0, 1, 1, 1, 1, 2, 2, 3][random(10)]!;
  const bytes = Array.from({ length: count }, () => LEGACY_PREFIXES[random(LEGACY_PREFIXES.length)]!);
  if (bits === 64 && random(3) === 0) bytes.push(0x40 + random(16));
  return bytes;
}

/** With vvvv mostly unused, as most instructions want it, and outside 64-bit mode with R and X set, else it is LES. */
function vexPrefix(random: (limit: number) => number, bits: CodeSize, map: number): number[] {
  const before = random(8) === 0 ? prefixes(random, bits) : random(8) === 0 ? [0x65, 0x67][random(2)]! : [];
  const vvvv = random(2) ? 0x78 : random(16) << 3;
  const last = (random(2) << 7) | vvvv | (random(2) << 2) | random(4);
  const extension = bits === 64 ? random(8) << 5 : 0xe0;
  if (map === 1 && random(2)) return [before, 0xc5, bits === 64 ? last : last | 0xc0].flat();
  return [before, 0xc4, extension | map, last].flat();
}

/** Tails are half zeros and ones, so that displacements and immediates are short numbers as well as long ones. */
function fill(start: number[], random: (limit: number) => number): Uint8Array {
  const bytes = new Uint8Array(LENGTH);
  for (let i = 0; i < LENGTH; i++) bytes[i] = start[i] ?? random(256);
  return bytes;
}
