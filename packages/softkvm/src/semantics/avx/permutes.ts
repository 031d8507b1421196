/** Permutations of AVX and AVX2, and shifts by counts of their own: Intel SDM vol. 2. */

import type { I32, I64, V128 } from "../../wasm/expr.ts";
import { c32, c64, i32, i64, select } from "../../wasm/ops.ts";
import { constant, i8x16, i32x4, i64x2, splat, v128 } from "../../wasm/simd.ts";
import type { Meaning } from "../context.ts";
import { binary, lanes, unary, zeros } from "../sse/vectors.ts";
import { readBoth, vex, writeBoth } from "./vex.ts";

const four = [0, 1, 2, 3];

/** VPERMILPS and VPERMILPD: lanes of each half, by an immediate or by bits of operand 2's lanes. */
const permuteSingles = vex(
  unary((a, c) =>
    lanes(
      4,
      a,
      a,
      four.map((lane) => (c.immediate(2) >> (lane * 2)) & 3),
    ),
  ),
);
const permuteDoubles = vex(
  unary((a, c) => lanes(8, a, a, [c.immediate(2) & 1, (c.immediate(2) >> 1) & 1])),
  { immediate: (value, half) => (value >> (half * 2)) & 3 },
);
/** Numbers of lanes, one in each lane, as the numbers of their bytes. */
function byteNumbers(size: 4 | 8, numbers: V128): V128 {
  const everywhere = Array.from({ length: 16 }, (_, byte) => byte - (byte % size));
  const within = constant(
    1,
    Array.from({ length: 16 }, (_, byte) => byte % size),
  );
  const first = i32x4.shl(numbers, c32(size === 4 ? 2 : 3));
  return v128.or(i8x16.shuffle(first, first, everywhere), within);
}
const permuteSinglesBy = vex(
  binary((a, b, c) => i8x16.swizzle(a, byteNumbers(4, c.let(v128.and(b, splat(4, 3)))))),
  { separate: true },
);
/** The number is bit 1 of each lane. */
const permuteDoublesBy = vex(
  binary((a, b, c) => i8x16.swizzle(a, byteNumbers(8, c.let(v128.and(i64x2.shr_u(b, c32(1)), splat(8, 1)))))),
  { separate: true },
);
const byImmediateOr = (immediate: Meaning, vector: Meaning): Meaning => {
  return (c) => (c.operands[2]!.kind === "imm" ? immediate(c) : vector(c));
};

/** VPERM2F128 and VPERM2I128: each half by four bits: one of four, or zeros. */
const permuteHalves: Meaning = (c) => {
  const b = readBoth(c, 2);
  const a = readBoth(c, 1);
  const halves = [a.low, a.high, b.low, b.high];
  const chosen = (bits: number) => (bits & 8 ? zeros() : halves[bits & 3]!);
  const imm = c.immediate(3);
  writeBoth(c, 0, { low: chosen(imm), high: chosen(imm >> 4) });
};

/** VPERMQ and VPERMPD: any of four lanes by two bits of the immediate each. */
const permuteQuadwords: Meaning = (c) => {
  const { low, high } = readBoth(c, 1);
  const field = (index: number) => (c.immediate(2) >> (index * 2)) & 3;
  writeBoth(c, 0, {
    low: lanes(8, low, high, [field(0), field(1)]),
    high: lanes(8, low, high, [field(2), field(3)]),
  });
};

/** VPERMD and VPERMPS: lanes of operand 2, any of eight by the numbers in operand 1. */
const permuteDoublewords: Meaning = (c) => {
  const source = readBoth(c, 2);
  const numbers = readBoth(c, 1);
  const half = (of: V128): V128 => {
    const at = c.let(byteNumbers(4, c.let(v128.and(of, splat(4, 7)))));
    // Swizzles give 0 beyond 15: of the bytes from 16 on, the upper half's has 16 less.
    return v128.or(i8x16.swizzle(source.low, at), i8x16.swizzle(source.high, i8x16.sub(at, splat(1, 16))));
  };
  writeBoth(c, 0, { low: half(numbers.low), high: half(numbers.high) });
};

/** VPSLLVD and its kin: by the count in the same lane; what is beyond the width leaves nothing, or signs. */
function shiftDoublewords(shift: (a: I32, count: I32) => I32, arithmetic = false): Meaning {
  return vex(
    binary((a, b, c) => {
      let result: V128 = zeros();
      for (const lane of four) {
        const count = c.let(i32x4.extract_lane(b, lane));
        const value = i32x4.extract_lane(a, lane);
        const beyond = i32.gt_u(count, c32(31));
        const shifted = arithmetic
          ? shift(value, select(beyond, c32(31), count))
          : select(beyond, c32(0), shift(value, count));
        result = i32x4.replace_lane(result, lane, shifted);
      }
      return result;
    }),
    { separate: true },
  );
}

function shiftQuadwords(shift: (a: I64, count: I64) => I64): Meaning {
  return vex(
    binary((a, b, c) => {
      let result: V128 = zeros();
      for (const lane of [0, 1]) {
        const count = c.let(i64x2.extract_lane(b, lane));
        const shifted = shift(i64x2.extract_lane(a, lane), count);
        result = i64x2.replace_lane(result, lane, select(i64.gt_u(count, c64(63)), c64(0), shifted));
      }
      return result;
    }),
    { separate: true },
  );
}

export const permutes: Record<string, Meaning> = {
  vpermilps: byImmediateOr(permuteSingles, permuteSinglesBy),
  vpermilpd: byImmediateOr(permuteDoubles, permuteDoublesBy),
  ...{ vperm2f128: permuteHalves, vperm2i128: permuteHalves },
  ...{ vpermq: permuteQuadwords, vpermpd: permuteQuadwords },
  ...{ vpermd: permuteDoublewords, vpermps: permuteDoublewords },

  vpsllvd: shiftDoublewords(i32.shl),
  vpsrlvd: shiftDoublewords(i32.shr_u),
  vpsravd: shiftDoublewords(i32.shr_s, true),
  ...{ vpsllvq: shiftQuadwords(i64.shl), vpsrlvq: shiftQuadwords(i64.shr_u) },
};
