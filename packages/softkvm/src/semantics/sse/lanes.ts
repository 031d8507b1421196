/**
 * Floating point on vectors, fast and exact (Intel SDM vol. 1, 10.2 and 11.5).
 *
 * WebAssembly rounds to nearest and tells nothing: no exceptions, no flags, any NaN. So the result of its instruction is
 * taken only where it must be the processor's and MXCSR must stay as it is, which is nearly always: operands and result
 * are normal numbers (or zeros in the right places), rounding is to nearest, and the flag PE is already set and masked, as
 * it is for good in any program that once divided 1 by 3. All else goes to the vector unit in TypeScript, which is exact
 * to the bit and the flag, by way of unit-function.ts, which does what is less common but not rare. FTZ and DAZ and the
 * other masks do not matter where all numbers are normal.
 */

import { State } from "../../cpu/layout.ts";
import { UnitOperation } from "../../vector-unit/operations.ts";
import type { I32, Local, V128 } from "../../wasm/expr.ts";
import { c32, i32 } from "../../wasm/ops.ts";
import { f32x4, f64x2, i32x4, i64x2, splat, v128 } from "../../wasm/simd.ts";
import type { Context } from "../context.ts";

/** Bits of MXCSR that decide whether an inexact result is of no matter: its flag, its mask, and the rounding. */
export const QUIET = { PE: 0x20, PM: 0x1000, RC: 0x6000 } as const;
const { PE, PM, RC } = QUIET;

/** Bytes of a float. */
export type FloatSize = 4 | 8;

/** A format's lanes. */
export interface Lanes {
  readonly size: FloatSize;
  readonly of: typeof f32x4 | typeof f64x2;
  /** The least normal number. */
  readonly least: V128;
  readonly infinity: V128;
  readonly allTrue: (a: V128) => I32;
  /** The flag for the vector unit. */
  readonly flag: number;
}

const SINGLES: Lanes = {
  size: 4,
  of: f32x4,
  least: splat(4, 0x00800000),
  infinity: splat(4, 0x7f800000),
  allTrue: i32x4.all_true,
  flag: 0,
};
const DOUBLES: Lanes = {
  size: 8,
  of: f64x2,
  least: splat(8, 0x0010000000000000n),
  infinity: splat(8, 0x7ff0000000000000n),
  allTrue: i64x2.all_true,
  flag: UnitOperation.DOUBLE,
};
export const lanesOf = (size: FloatSize): Lanes => (size === 4 ? SINGLES : DOUBLES);

/** Whether a mask of lanes is true: in all of them, or with scalars in lane 0. */
export function holds({ allTrue }: Lanes, scalar: boolean, mask: V128): I32 {
  return scalar ? i32x4.extract_lane(mask, 0) : allTrue(mask);
}

/** An inexact result changes nothing, and rounding is to nearest (or of no matter). */
export function inexactIsQuiet(c: Pick<Context, "state32">, rounding: "nearest" | "any" = "nearest"): I32 {
  const bits = rounding === "nearest" ? PE | PM | RC : PE | PM;
  return i32.eq(i32.and(c.state32(State.mxcsr), c32(bits)), c32(PE | PM));
}

export function roundsToNearest(c: Context): I32 {
  return i32.eqz(i32.and(c.state32(State.mxcsr), c32(RC)));
}

/** Lanes that are zeros, normal numbers or infinities: no NaNs, nothing denormal. */
export function plain({ of, least }: Lanes, a: V128): V128 {
  return v128.or(of.ge(of.abs(a), least), of.eq(a, splat(8, 0)));
}

/** Lanes that are normal; the least one, to which a lesser result may have been rounded, does not count. */
export function normal({ of, least, infinity }: Lanes, magnitude: V128): V128 {
  return v128.and(of.gt(magnitude, least), of.lt(magnitude, infinity));
}

/** `fast`, or where the conditions do not hold (each is looked at only if those before failed) what `exact` makes. */
export function unless(c: Context, conditions: (() => I32)[], fast: V128, exact: () => V128): V128 {
  const result = c.code.let(fast);
  const next = ([first, ...others]: (() => I32)[]): void => {
    if (first === undefined) c.code.set(result, exact());
    else c.code.if(i32.eqz(first()), () => next(others), undefined, false);
  };
  next(conditions);
  return result as Local<"v128">;
}
