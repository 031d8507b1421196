/**
 * Arithmetic whose result is checked, cheaply, to be one that WebAssembly gives as the processor does (lanes.ts says which
 * those are): all exponents lie well within the normal ones, and no operand is denormal. Operands that an earlier check
 * has shown to be fine are not looked at again: {@link Context.isRegular}.
 */

import { UnitOperation } from "../../vector-unit/operations.ts";
import type { Label } from "../../wasm/code.ts";
import type { Expr, F32, F64, I32, Local, V128 } from "../../wasm/expr.ts";
import { c32, f32, f64, i32, i64 } from "../../wasm/ops.ts";
import { f32x4, f64x2, i32x4, i64x2, splat, v128 } from "../../wasm/simd.ts";
import type { Context } from "../context.ts";
import { type FloatSize, lanesOf } from "./lanes.ts";
import type { Rule } from "./rules.ts";

export type Scalar = F32 | F64;

/**
 * What an exponent is checked with: 2 is added to it, and then one of the mask's bits has to be set. So the two least
 * exponents and the two greatest do not pass: those of zeros, denormal numbers, infinities and NaNs, and their neighbours,
 * to which a result may have been rounded. The mask is 0 while MXCSR makes an inexact result matter: nothing passes then.
 */
export interface FloatGuard {
  /** For exponents in the places that they have in all lanes. */
  readonly bias: V128;
  readonly mask: V128;
  /** For one that was shifted down. */
  readonly scalarMask: I32;
}

/** {@link FloatGuard}'s constants: masks for when nothing else speaks against a result. */
export const guardConstants = {
  4: { bias: splat(4, 2 << 23), mask: splat(4, 0xfc << 23), scalarMask: 0xfc },
  8: { bias: splat(8, 2n << 52n), mask: splat(8, 0x7fcn << 52n), scalarMask: 0x7fc },
} as const;

/** The exponent of a float, with its sign above. */
function exponent(size: FloatSize, value: Scalar): I32 {
  if (size === 4) return i32.shr_u(i32.reinterpret_f32(value as F32), c32(23));
  return i32.wrap(i64.shr_u(i64.reinterpret_f64(value as F64), c64Shift));
}
const c64Shift = i64.const(52);

/** Runs `rare` where `test` branches to the label that it gets. */
export function rarely(c: Context, test: (label: Label) => void, rare: () => void): void {
  const { code } = c;
  code.block((done) => {
    code.block((label) => {
      test(label);
      code.br(done);
    });
    rare();
  });
}

/** Branches where a number is denormal or NaN. */
export function unlessRegular(c: Context, size: FloatSize, value: F32 & F64, label: Label): void {
  const of = size === 4 ? f32 : f64;
  const most = size === 4 ? 0xfe : 0x7fe;
  const isNormal = i32.and(i32.add(exponent(size, value), c32(1)), c32(most));
  const magnitude = of.abs(value) as F32 & F64;
  const infinity = of.const(Number.POSITIVE_INFINITY) as F32 & F64;
  const isOther = i32.and(of.ne(magnitude, of.const(0) as F32 & F64), of.ne(magnitude, infinity));
  c.code.if(i32.eqz(isNormal), () => c.code.brIf(label, isOther, false), undefined, false);
}

/** An operand, and where it comes from if it is one of the instruction's. */
export interface FloatOperand<T extends Expr> {
  readonly value: T;
  readonly index?: number;
}

/** An operation on all lanes. */
export function calculateLanes(
  c: Context,
  rule: Rule,
  size: FloatSize,
  a: FloatOperand<V128>,
  b: FloatOperand<V128>,
): V128 {
  const format = lanesOf(size);
  const { bias, mask } = c.floatGuard(size);
  const lanes = size === 4 ? "f32x4" : "f64x2";
  const integers = size === 4 ? i32x4 : i64x2;
  const first = c.let(a.value);
  const second = c.let(b.value);
  const result = c.code.let(rule.lanes(format.of, first, second));
  let bits = v128.and(integers.add(result, bias), mask);
  for (const [{ index }, value] of [
    [a, first],
    [b, second],
  ] as const) {
    if (value === first && !rule.usesFirst) continue;
    if (index !== undefined && c.isRegular(index, lanes)) continue;
    // Of doubles, too: what the mask leaves is in the upper half of a lane.
    bits = i32x4.min_u(bits, v128.and(value, mask));
    if (index !== undefined) c.setRegular(index, lanes);
  }
  const isZero = integers.eq(bits, splat(8, 0));
  c.code.if(
    integers.bitmask(isZero),
    () => c.code.set(result, c.vectorUnit(rule.operation | format.flag, first, second)),
    undefined,
    false,
  );
  return result;
}

/** The same on numbers by themselves. */
export function calculateScalar(
  c: Context,
  rule: Rule,
  size: FloatSize,
  a: FloatOperand<Scalar>,
  b: FloatOperand<Scalar>,
): Scalar {
  const { scalarMask } = c.floatGuard(size);
  const lanes = size === 4 ? "f32" : "f64";
  const first = rule.usesFirst ? c.let(a.value) : a.value;
  const second = c.let(b.value);
  const result = c.code.let(rule.scalar(size === 4 ? f32 : f64, first, second)) as Local<"f32"> & Local<"f64">;
  rarely(
    c,
    (rare) => {
      c.code.brIf(rare, i32.eqz(i32.and(i32.add(exponent(size, result), c32(2)), scalarMask)), false);
      for (const [{ index }, value] of [
        [a, first],
        [b, second],
      ] as const) {
        if (value === first && !rule.usesFirst) continue;
        if (index !== undefined && c.isRegular(index, lanes)) continue;
        c.code.brIf(rare, i32.eqz(i32.and(exponent(size, value), scalarMask)), false);
        if (index !== undefined) c.setRegular(index, lanes);
      }
    },
    () => c.code.set(result, unitOnScalars(c, rule.operation, size, first, second) as F32 & F64),
  );
  return result;
}

/** What the vector unit makes of numbers by themselves. */
export function unitOnScalars(c: Context, operation: number, size: FloatSize, a: Scalar, b: Scalar, argument?: I32) {
  return lowest(size, unitOnLowest(c, operation, size, a, b, argument));
}
/** The same, as the unit gives it. */
export function unitOnLowest(
  c: Context,
  operation: number,
  size: FloatSize,
  a: Scalar,
  b: Scalar,
  argument?: I32,
): V128 {
  const vector = (value: Scalar) => (size === 4 ? f32x4.splat(value as F32) : f64x2.splat(value as F64));
  const code = operation | lanesOf(size).flag | UnitOperation.SCALAR;
  return c.vectorUnit(code, vector(a), vector(b), argument);
}

const lowest = (size: FloatSize, vector: V128): Scalar =>
  size === 4 ? f32x4.extract_lane(vector, 0) : f64x2.extract_lane(vector, 0);
