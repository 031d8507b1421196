/** SHA-1 and SHA-256 (Intel SDM vol. 2, SHA1RNDS4 to SHA256RNDS2; FIPS 180-4). Words are numbered from lane 3 down. */

import type { Code } from "../wasm/code.ts";
import type { I32, V128 } from "../wasm/expr.ts";
import { c32, i32 } from "../wasm/ops.ts";
import { i32x4, splat, v128 } from "../wasm/simd.ts";

const lane = (code: Code, vector: V128, number: number): I32 => code.let(i32x4.extract_lane(vector, number));
const all = (values: readonly I32[], combine: (a: I32, b: I32) => I32): I32 => values.reduce(combine);
const sum = (...values: I32[]) => all(values, i32.add);
const xor = (...values: I32[]) => all(values, i32.xor);
const right = (value: I32, by: number) => i32.rotr(value, c32(by));
const left = (value: I32, by: number) => i32.rotl(value, c32(by));

/** A vector by its lanes from the lowest. */
const vector = (words: readonly I32[]): V128 =>
  words.reduce<V128>((result, word, index) => i32x4.replace_lane(result, index, word), splat(8, 0));

const choose = (e: I32, f: I32, g: I32) => i32.xor(g, i32.and(e, i32.xor(f, g)));
const majority = (a: I32, b: I32, c: I32) => i32.or(i32.and(a, b), i32.and(c, i32.or(a, b)));

/** SHA256RNDS2: `a` is h g d c and `b` f e b a from the lowest lane; `third` has the words plus constants. */
function sha256TwoRounds(code: Code, first: V128, second: V128, third: V128): void {
  let [h, g, d, c] = [0, 1, 2, 3].map((index) => lane(code, first, index)) as [I32, I32, I32, I32];
  let [f, e, b, a] = [0, 1, 2, 3].map((index) => lane(code, second, index)) as [I32, I32, I32, I32];
  for (let round = 0; round < 2; round++) {
    const sigma1 = xor(right(e, 6), right(e, 11), right(e, 25));
    const temporary = code.let(sum(h, sigma1, choose(e, f, g), lane(code, third, round)));
    const sigma0 = xor(right(a, 2), right(a, 13), right(a, 22));
    const newA = code.let(sum(temporary, sigma0, majority(a, b, c)));
    const newE = code.let(i32.add(d, temporary));
    [a, b, c, d, e, f, g, h] = [newA, a, b, c, newE, e, f, g];
  }
  code.return(vector([f, e, b, a]));
}

/** SHA256MSG1: each word plus σ0 of the next. */
function sha256Message1(code: Code, a: V128, b: V128): void {
  const words = [...[0, 1, 2, 3].map((index) => lane(code, a, index)), lane(code, b, 0)];
  const sigma = (w: I32) => xor(right(w, 7), right(w, 18), i32.shr_u(w, c32(3)));
  code.return(vector([0, 1, 2, 3].map((index) => sum(words[index]!, sigma(words[index + 1]!)))));
}

/** SHA256MSG2: each word plus σ1 of the one two before, of which the last two are results. */
function sha256Message2(code: Code, a: V128, b: V128): void {
  const sigma = (w: I32) => xor(right(w, 17), right(w, 19), i32.shr_u(w, c32(10)));
  const words: I32[] = [lane(code, b, 2), lane(code, b, 3)];
  for (let index = 0; index < 4; index++) {
    words.push(code.let(sum(lane(code, a, index), sigma(words[index]!))));
  }
  code.return(vector(words.slice(2)));
}

type Mix = (b: I32, c: I32, d: I32) => I32;
const parity: Mix = (b, c, d) => xor(b, c, d);
const SHA1: readonly { mix: Mix; constant: number }[] = [
  { mix: choose, constant: 0x5a827999 },
  { mix: parity, constant: 0x6ed9eba1 },
  { mix: majority, constant: 0x8f1bbcdc },
  { mix: parity, constant: 0xca62c1d6 },
];

/** SHA1RNDS4: four rounds with the function that the immediate names; E is in the first word already. */
const sha1FourRounds = (kind: number) => (code: Code, first: V128, second: V128) => {
  const { mix, constant } = SHA1[kind]!;
  let [d, c, b, a] = [0, 1, 2, 3].map((index) => lane(code, first, index)) as [I32, I32, I32, I32];
  let e: I32 = c32(0);
  for (let round = 0; round < 4; round++) {
    const word = lane(code, second, 3 - round);
    const newA = code.let(sum(left(a, 5), mix(b, c, d), word, c32(constant), e));
    [a, b, c, d, e] = [newA, a, code.let(left(b, 30)), c, d];
  }
  code.return(vector([d, c, b, a]));
};

/** SHA1NEXTE: E of four rounds ago, turned, onto the first word. */
function sha1NextE(code: Code, a: V128, b: V128): void {
  const e = left(lane(code, a, 3), 30);
  code.return(i32x4.replace_lane(b, 3, i32.add(lane(code, b, 3), e)));
}

/** SHA1MSG1: each word XOR the one two behind. */
function sha1Message1(code: Code, a: V128, b: V128): void {
  const next = vector([lane(code, b, 2), lane(code, b, 3), lane(code, a, 0), lane(code, a, 1)]);
  code.return(v128.xor(a, next));
}

/** SHA1MSG2: each word XOR the one before, turned by a bit; the last needs the first. */
function sha1Message2(code: Code, a: V128, b: V128): void {
  const w16 = code.let(left(i32.xor(lane(code, a, 3), lane(code, b, 2)), 1));
  const w17 = code.let(left(i32.xor(lane(code, a, 2), lane(code, b, 1)), 1));
  const w18 = code.let(left(i32.xor(lane(code, a, 1), lane(code, b, 0)), 1));
  const w19 = left(i32.xor(lane(code, a, 0), w16), 1);
  code.return(vector([w19, w18, w17, w16]));
}

export const shaFunctions = {
  sha256TwoRounds,
  sha256Message1,
  sha256Message2,
  sha1FourRounds0: sha1FourRounds(0),
  sha1FourRounds1: sha1FourRounds(1),
  sha1FourRounds2: sha1FourRounds(2),
  sha1FourRounds3: sha1FourRounds(3),
  sha1NextE,
  sha1Message1,
  sha1Message2,
};
