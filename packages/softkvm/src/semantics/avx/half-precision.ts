/** F16C: Intel SDM vol. 2. How it is exact: see sse/lanes.ts. */

import { UnitOperation } from "../../vector-unit/operations.ts";
import type { V128 } from "../../wasm/expr.ts";
import { c32, i32 } from "../../wasm/ops.ts";
import { f32x4, i16x8, i32x4, splat, v128 } from "../../wasm/simd.ts";
import type { Meaning } from "../context.ts";
import { inexactIsQuiet, lanesOf, unless } from "../sse/lanes.ts";
import { unary, zeros } from "../sse/vectors.ts";
import { vex } from "./vex.ts";

const and = (a: V128, bits: number) => v128.and(a, splat(4, bits));

/** Exponents differ by 112: a half's bits in a single's place are its value but for that. */
const SCALE = splat(4, 0x77800000);

/** VCVTPH2PS: exact; signaling NaNs raise an exception. */
const widen: Meaning = unary((words, c) => {
  const a = c.let(i32x4.extend_low_i16x8_u(words));
  const magnitude = c.let(and(a, 0x7fff));
  const bits = c.let(i32x4.shl(magnitude, c32(13)));
  const isSpecial = i32x4.gt_s(magnitude, splat(4, 0x7bff));
  const value = v128.bitselect(v128.or(bits, splat(4, 0x7f800000)), f32x4.mul(bits, SCALE), isSpecial);
  const signed = v128.or(value, i32x4.shl(and(a, 0x8000), c32(16)));
  const isSignaling = v128.and(i32x4.gt_s(magnitude, splat(4, 0x7c00)), i32x4.eq(and(a, 0x200), zeros()));
  return unless(c, [() => i32.eqz(v128.any_true(isSignaling))], signed, () =>
    c.vectorUnit(UnitOperation.FROM_HALF, a, a),
  );
});

/** VCVTPS2PH: the immediate says how to round; fast is rounding to nearest of what becomes a normal half or is 0. */
const narrow: Meaning = unary((a, c) => {
  const imm = c.immediate(2);
  const magnitude = c.let(and(a, 0x7fffffff));
  const odd = and(i32x4.shr_u(magnitude, c32(13)), 1);
  const rounded = i32x4.add(i32x4.sub(magnitude, splat(4, (112 << 23) - 0xfff)), odd);
  const isZero = i32x4.eq(magnitude, zeros());
  const half = v128.andnot(i32x4.shr_u(rounded, c32(13)), isZero);
  const fast = v128.or(half, and(i32x4.shr_u(a, c32(16)), 0x8000));
  // From the least normal half on to what is rounded to infinity.
  const inRange = v128.and(i32x4.gt_s(magnitude, splat(4, 0x387fffff)), i32x4.lt_s(magnitude, splat(4, 0x477ff000)));
  const fine = () => lanesOf(4).allTrue(v128.or(inRange, isZero));
  const toNearest = (imm & 4) !== 0 || (imm & 3) === 0;
  const quiet = () => (toNearest ? inexactIsQuiet(c, imm & 4 ? "nearest" : "any") : c32(0));
  const exact = () => c.vectorUnit(UnitOperation.TO_HALF, a, a, c32(imm));
  const words = unless(c, [() => i32.and(quiet(), fine())], fast, exact);
  return i16x8.narrow_i32x4_u(words, zeros());
});

export const halfPrecision: Record<string, Meaning> = {
  vcvtph2ps: vex(widen, { source: "narrower" }),
  vcvtps2ph: vex(narrow, { source: "wider" }),
};
