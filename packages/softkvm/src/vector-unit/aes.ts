/**
 * AES-NI (Intel SDM vol. 2, AESENC; FIPS 197): a round by four lookups for each column, in tables of what SubBytes and
 * MixColumns make of a byte.
 */

import type { Code } from "../wasm/code.ts";
import type { I32, V128 } from "../wasm/expr.ts";
import { c32, i32 } from "../wasm/ops.ts";
import { i8x16, i32x4, splat, v128 } from "../wasm/simd.ts";
import type { FunctionBody } from "./functions.ts";

/** Where tables of 256 words lie. */
const ENCRYPT = 0x0000;
const DECRYPT = 0x0400;
const SUBSTITUTE = 0x0800;
const RESTORE = 0x0c00;
const UNMIX = 0x1000;

/** Multiplication in GF(2^8) modulo x^8 + x^4 + x^3 + x + 1 (FIPS 197, 4.2). */
function multiply(a: number, b: number): number {
  let product = 0;
  for (let bit = 0, shifted = a; bit < 8; bit++) {
    if ((b >> bit) & 1) product ^= shifted;
    shifted = (shifted << 1) ^ (shifted & 0x80 ? 0x11b : 0);
  }
  return product;
}

/** SubBytes (5.1.1): the inverse, then an affine map. */
const substitution = Array.from({ length: 256 }, (_, byte) => {
  let inverse = 1;
  // The inverse is the 254th power; that of 0 is 0.
  for (let power = 0; power < 254; power++) inverse = multiply(inverse, byte);
  let result = 0x63;
  for (let turn = 0; turn < 5; turn++) result ^= (inverse << turn) | (inverse >> (8 - turn));
  return result & 0xff;
});
const restoration = substitution.reduce<number[]>((inverse, to, from) => {
  inverse[to] = from;
  return inverse;
}, []);

/** A column of the matrix of MixColumns or its inverse, times a byte. */
const column = (byte: number, factors: readonly number[]) =>
  factors.reduce((word, factor, row) => (word | (multiply(byte, factor) << (row * 8))) >>> 0, 0);
const MIX = [2, 1, 1, 3];
const INVERSE_MIX = [14, 9, 13, 11];

const table = (at: number, of: (byte: number) => number) => ({
  at,
  words: Array.from({ length: 256 }, (_, byte) => of(byte)),
});
export const AES_TABLES = [
  table(ENCRYPT, (byte) => column(substitution[byte]!, MIX)),
  table(DECRYPT, (byte) => column(restoration[byte]!, INVERSE_MIX)),
  table(SUBSTITUTE, (byte) => substitution[byte]!),
  table(RESTORE, (byte) => restoration[byte]!),
  table(UNMIX, (byte) => column(byte, INVERSE_MIX)),
];

const lookUp = (at: number, byte: I32): I32 => i32.load(i32.shl(byte, c32(2)), at);

/** Four words, each of four bytes of `state` by their numbers, looked up, turned to their rows and combined. */
function columns(at: number, state: V128, bytesOf: (column: number) => number[]): V128 {
  return [0, 1, 2, 3].reduce(
    (all, index) => {
      const parts = bytesOf(index).map((byte, row) =>
        i32.rotl(lookUp(at, i8x16.extract_lane_u(state, byte)), c32(row * 8)),
      );
      return i32x4.replace_lane(all, index, parts.reduce(i32.xor));
    },
    splat(8, 0),
  );
}

/** The bytes that ShiftRows, or its inverse, moves into a column (5.1.2, 5.3.1). */
const shifted = (direction: 1 | -1) => (index: number) =>
  [0, 1, 2, 3].map((row) => (((index + direction * row) & 3) * 4 + row) & 15);
const straight = (index: number) => [0, 1, 2, 3].map((row) => index * 4 + row);

const round =
  (at: number, direction: 1 | -1): FunctionBody =>
  (code, state, key) => {
    code.return(v128.xor(columns(at, state, shifted(direction)), key));
  };

/** SubWord of words 1 and 3, each also turned by a byte; the constant is XORed by who calls (SDM, AESKEYGENASSIST). */
function keyAssist(code: Code, _: V128, key: V128): void {
  const words = code.let(columns(SUBSTITUTE, key, straight));
  const one = code.let(i32x4.extract_lane(words, 1));
  const three = code.let(i32x4.extract_lane(words, 3));
  let result = i32x4.replace_lane(words, 0, one);
  result = i32x4.replace_lane(result, 1, i32.rotr(one, c32(8)));
  result = i32x4.replace_lane(result, 2, three);
  code.return(i32x4.replace_lane(result, 3, i32.rotr(three, c32(8))));
}

export const aesFunctions = {
  aesEncrypt: round(ENCRYPT, 1),
  aesEncryptLast: round(SUBSTITUTE, 1),
  aesDecrypt: round(DECRYPT, -1),
  aesDecryptLast: round(RESTORE, -1),
  aesInverseMix: (code: Code, _: V128, key: V128) => code.return(columns(UNMIX, key, straight)),
  aesKeyAssist: keyAssist,
};
