/** Arithmetic and logic on integers in vectors: Intel SDM vol. 2. */

import type { V128 } from "../../wasm/expr.ts";
import { c32, i32, i64, select } from "../../wasm/ops.ts";
import { constant, i8x16, i16x8, i32x4, i64x2, splat, v128 } from "../../wasm/simd.ts";
import type { Context, IntegerSize, Meaning } from "../context.ts";
import { zeroExtend } from "../words.ts";
import { alsoMmx, type Binary, binary, bytes, isMmx, lanes, lowHalves, type Shift, unary, zeros } from "./vectors.ts";

const EVEN_WORDS = [0, 2, 4, 6, 8, 10, 12, 14];
const ODD_WORDS = [1, 3, 5, 7, 9, 11, 13, 15];

const andNot: Binary = (a, b) => v128.andnot(b, a);

/** Narrows two vectors into one; two mm registers are one vector to begin with. */
const pack = (narrow: Binary): Meaning =>
  binary((a, b, c) => (isMmx(c) ? narrow(lowHalves(a, b), zeros()) : narrow(a, b)));

/** Adds or subtracts neighbours, those of `a` to the lower half of the result and those of `b` to the upper. */
function horizontal(size: 2 | 4, compute: Binary): Meaning {
  const count = 32 / size;
  const every = (first: number) => Array.from({ length: count / 2 }, (_, index) => first + index * 2);
  return binary((a, b, c) => {
    const low = isMmx(c) ? c.let(lowHalves(a, b)) : a;
    const high = isMmx(c) ? low : b;
    return compute(lanes(size, low, high, every(0)), lanes(size, low, high, every(1)));
  });
}

/** PSIGNx: `a` where `b` is positive, -a where it is negative, 0 where it is 0. */
const sign = (of: { neg: (a: V128) => V128; lt_s: Binary; eq: Binary }): Meaning =>
  binary((a, b) => {
    const signed = v128.bitselect(of.neg(a), a, of.lt_s(b, zeros()));
    return v128.andnot(signed, of.eq(b, zeros()));
  });

/** The upper half of each product of words. */
const highProducts = (low: Binary, high: Binary): Meaning =>
  binary((a, b) => lanes(2, low(a, b), high(a, b), ODD_WORDS));

/** PMULHRSW: only 0x8000 times itself does not fit. It wraps here, and saturates to 0x7fff in WebAssembly. */
const roundedProducts = binary((a, b) => {
  const lowest = splat(2, 0x8000);
  const both = v128.and(i16x8.eq(a, lowest), i16x8.eq(b, lowest));
  return i16x8.sub(i16x8.q15mulr_sat_s(a, b), both);
});

/** PMADDUBSW: unsigned bytes of `a` times signed bytes of `b`, neighbours added. */
const unsignedBySigned = binary((a, b, c) => {
  const low = c.let(i16x8.mul(i16x8.extend_low_i8x16_u(a), i16x8.extend_low_i8x16_s(b)));
  const high = c.let(i16x8.mul(i16x8.extend_high_i8x16_u(a), i16x8.extend_high_i8x16_s(b)));
  return i16x8.add_sat_s(lanes(2, low, high, EVEN_WORDS), lanes(2, low, high, ODD_WORDS));
});

/** Products of the even doublewords. */
const evenProducts = (multiply: Binary): Meaning =>
  binary((a, b) => multiply(lanes(4, a, a, [0, 2, 0, 2]), lanes(4, b, b, [0, 2, 0, 2])));

const differences: Binary = (a, b) => v128.or(i8x16.sub_sat_u(a, b), i8x16.sub_sat_u(b, a));

/** PSADBW: eight differences to a sum. */
const sumOfDifferences = binary((a, b, c) => {
  const sums = c.let(i32x4.extadd_pairwise_i16x8_u(i16x8.extadd_pairwise_i8x16_u(differences(a, b))));
  return i64x2.add(i64x2.shr_u(sums, c32(32)), v128.and(sums, splat(8, 0xffffffff)));
});

/** MPSADBW: the immediate chooses four bytes of `b` and where in `a` the eight groups of four begin. */
const slidingDifferences = binary((a, b, c) => {
  const four = (c.immediate(2) & 3) * 4;
  const first = (c.immediate(2) & 4) !== 0 ? 4 : 0;
  const sums = Array.from({ length: 4 }, (_, byte) => {
    const from = Array.from({ length: 16 }, (_, index) => Math.min(first + byte + index, 15));
    const difference = differences(c.let(bytes(a, a, from)), c.let(bytes(b, b, Array(16).fill(four + byte))));
    return i16x8.extend_low_i8x16_u(difference);
  });
  return sums.reduce(i16x8.add);
});

/** PHMINPOSUW: the lowest word, and its number behind it. Words with their numbers below are compared at once. */
const lowestWord = unary((a, c) => {
  const numbered = (words: V128, numbers: V128) => v128.or(i32x4.shl(words, c32(16)), numbers);
  const low = numbered(i32x4.extend_low_i16x8_u(a), constant(4, [0, 1, 2, 3]));
  const high = numbered(i32x4.extend_low_i16x8_u(lanes(8, a, a, [1, 1])), constant(4, [4, 5, 6, 7]));
  const four = c.let(i32x4.min_u(low, high));
  const two = c.let(i32x4.min_u(four, lanes(8, four, four, [1, 1])));
  const one = c.let(i32x4.min_u(two, lanes(4, two, two, [1, 1, 1, 1])));
  return i32x4.replace_lane(zeros(), 0, i32.rotl(i32x4.extract_lane(one, 0), c32(16)));
});

/**
 * Shifts by a count that is an immediate or the low 64 bits of a vector. At the width and beyond nothing is left, or with
 * an arithmetic shift only signs.
 */
function shift(bits: 16 | 32 | 64, by: Shift, arithmetic = false): Meaning {
  return (c) => {
    const count = c.let(shiftCount(c));
    const all = i64.gt_u(count, i64.const(bits - 1));
    const a = c.readVector(0);
    if (arithmetic) c.writeVector(0, by(a, select(all, c32(bits - 1), i32.wrap(count))));
    else c.writeVector(0, select(all, zeros(), by(a, i32.wrap(count))));
  };
}

function shiftCount(c: Context) {
  const { kind, size } = c.operands[1]!;
  return kind === "imm" ? zeroExtend(size as IntegerSize, c.read(1)) : i64x2.extract_lane(c.readVector(1), 0);
}

/** Operations lane by lane and others that xmm and mm registers share. */
const common = alsoMmx({
  ...{ pand: binary(v128.and), pandn: binary(andNot), por: binary(v128.or), pxor: binary(v128.xor) },
  ...{ paddb: binary(i8x16.add), paddw: binary(i16x8.add), paddd: binary(i32x4.add), paddq: binary(i64x2.add) },
  ...{ psubb: binary(i8x16.sub), psubw: binary(i16x8.sub), psubd: binary(i32x4.sub), psubq: binary(i64x2.sub) },
  ...{ paddsb: binary(i8x16.add_sat_s), paddsw: binary(i16x8.add_sat_s) },
  ...{ paddusb: binary(i8x16.add_sat_u), paddusw: binary(i16x8.add_sat_u) },
  ...{ psubsb: binary(i8x16.sub_sat_s), psubsw: binary(i16x8.sub_sat_s) },
  ...{ psubusb: binary(i8x16.sub_sat_u), psubusw: binary(i16x8.sub_sat_u) },
  ...{ pavgb: binary(i8x16.avgr_u), pavgw: binary(i16x8.avgr_u) },
  ...{ pminub: binary(i8x16.min_u), pminsw: binary(i16x8.min_s) },
  ...{ pmaxub: binary(i8x16.max_u), pmaxsw: binary(i16x8.max_s) },
  ...{ pcmpeqb: binary(i8x16.eq), pcmpeqw: binary(i16x8.eq), pcmpeqd: binary(i32x4.eq) },
  ...{ pcmpgtb: binary(i8x16.gt_s), pcmpgtw: binary(i16x8.gt_s), pcmpgtd: binary(i32x4.gt_s) },

  pmullw: binary(i16x8.mul),
  pmulhw: highProducts(i32x4.extmul_low_i16x8_s, i32x4.extmul_high_i16x8_s),
  pmulhuw: highProducts(i32x4.extmul_low_i16x8_u, i32x4.extmul_high_i16x8_u),
  pmulhrsw: roundedProducts,
  pmaddwd: binary(i32x4.dot_i16x8_s),
  pmaddubsw: unsignedBySigned,
  pmuludq: evenProducts(i64x2.extmul_low_i32x4_u),
  psadbw: sumOfDifferences,

  ...{ pabsb: unary(i8x16.abs), pabsw: unary(i16x8.abs), pabsd: unary(i32x4.abs) },
  ...{ psignb: sign(i8x16), psignw: sign(i16x8), psignd: sign(i32x4) },
  ...{ phaddw: horizontal(2, i16x8.add), phaddd: horizontal(4, i32x4.add), phaddsw: horizontal(2, i16x8.add_sat_s) },
  ...{ phsubw: horizontal(2, i16x8.sub), phsubd: horizontal(4, i32x4.sub), phsubsw: horizontal(2, i16x8.sub_sat_s) },

  packsswb: pack(i8x16.narrow_i16x8_s),
  packuswb: pack(i8x16.narrow_i16x8_u),
  packssdw: pack(i16x8.narrow_i32x4_s),

  ...{ psllw: shift(16, i16x8.shl), pslld: shift(32, i32x4.shl), psllq: shift(64, i64x2.shl) },
  ...{ psrlw: shift(16, i16x8.shr_u), psrld: shift(32, i32x4.shr_u), psrlq: shift(64, i64x2.shr_u) },
  ...{ psraw: shift(16, i16x8.shr_s, true), psrad: shift(32, i32x4.shr_s, true) },
});

export const vectorIntegers: Record<string, Meaning> = {
  ...common,
  ...{ andps: binary(v128.and), andnps: binary(andNot), orps: binary(v128.or), xorps: binary(v128.xor) },
  ...{ andpd: binary(v128.and), andnpd: binary(andNot), orpd: binary(v128.or), xorpd: binary(v128.xor) },
  ...{ pminsb: binary(i8x16.min_s), pminuw: binary(i16x8.min_u), pminsd: binary(i32x4.min_s) },
  ...{ pminud: binary(i32x4.min_u), pmaxud: binary(i32x4.max_u) },
  ...{ pmaxsb: binary(i8x16.max_s), pmaxuw: binary(i16x8.max_u), pmaxsd: binary(i32x4.max_s) },
  ...{ pcmpeqq: binary(i64x2.eq), pcmpgtq: binary(i64x2.gt_s) },
  ...{ pmulld: binary(i32x4.mul), pmuldq: evenProducts(i64x2.extmul_low_i32x4_s) },
  packusdw: pack(i16x8.narrow_i32x4_u),
  mpsadbw: slidingDifferences,
  phminposuw: lowestWord,

  pmovsxbw: unary(i16x8.extend_low_i8x16_s),
  pmovsxbd: unary((a) => i32x4.extend_low_i16x8_s(i16x8.extend_low_i8x16_s(a))),
  pmovsxbq: unary((a) => i64x2.extend_low_i32x4_s(i32x4.extend_low_i16x8_s(i16x8.extend_low_i8x16_s(a)))),
  pmovsxwd: unary(i32x4.extend_low_i16x8_s),
  pmovsxwq: unary((a) => i64x2.extend_low_i32x4_s(i32x4.extend_low_i16x8_s(a))),
  pmovsxdq: unary(i64x2.extend_low_i32x4_s),
  pmovzxbw: unary(i16x8.extend_low_i8x16_u),
  pmovzxbd: unary((a) => i32x4.extend_low_i16x8_u(i16x8.extend_low_i8x16_u(a))),
  pmovzxbq: unary((a) => i64x2.extend_low_i32x4_u(i32x4.extend_low_i16x8_u(i16x8.extend_low_i8x16_u(a)))),
  pmovzxwd: unary(i32x4.extend_low_i16x8_u),
  pmovzxwq: unary((a) => i64x2.extend_low_i32x4_u(i32x4.extend_low_i16x8_u(a))),
  pmovzxdq: unary(i64x2.extend_low_i32x4_u),
};
