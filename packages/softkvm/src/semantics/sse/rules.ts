/** The operations of arithmetic on floats: what computes them, on all lanes or one number, and where 0 is exact. */

import { UnitOperation } from "../../vector-unit/operations.ts";
import type { F32, F64, V128 } from "../../wasm/expr.ts";
import type { f32, f64 } from "../../wasm/ops.ts";
import { constant, f32x4, type f64x2, splat, v128 } from "../../wasm/simd.ts";

type Format = typeof f32x4 | typeof f64x2;
type ScalarFormat = typeof f32 | typeof f64;
type Number = F32 | F64;

export interface Rule {
  readonly operation: number;
  readonly lanes: (of: Format, a: V128, b: V128) => V128;
  readonly scalar: (of: ScalarFormat, a: Number, b: Number) => Number;
  /** Lanes in which a result of 0 is exact, with operands that are neither denormal nor NaNs; undefined for all. */
  readonly exactZero: (of: Format, a: V128, b: V128) => V128 | undefined;
  /** The first operand counts. */
  readonly usesFirst: boolean;
}

const isZero = (of: Format, a: V128) => of.eq(a, splat(8, 0));

/** Numbers of one format go to functions of that format. */
const of2 =
  (name: "add" | "sub" | "mul" | "div") =>
  (of: ScalarFormat, a: Number, b: Number): Number =>
    (of[name] as (a: Number, b: Number) => Number)(a, b);

const common = { exactZero: () => undefined, usesFirst: true };

export const ADD: Rule = {
  ...common,
  operation: UnitOperation.ADD,
  lanes: (of, a, b) => of.add(a, b),
  scalar: of2("add"),
};
export const SUB: Rule = {
  ...common,
  operation: UnitOperation.SUB,
  lanes: (of, a, b) => of.sub(a, b),
  scalar: of2("sub"),
};
export const MUL: Rule = {
  ...common,
  operation: UnitOperation.MUL,
  lanes: (of, a, b) => of.mul(a, b),
  scalar: of2("mul"),
  exactZero: (of, a, b) => v128.or(isZero(of, a), isZero(of, b)),
};
export const DIV: Rule = {
  ...common,
  operation: UnitOperation.DIV,
  lanes: (of, a, b) => of.div(a, b),
  scalar: of2("div"),
  exactZero: (of, a) => isZero(of, a),
};
export const SQRT: Rule = {
  operation: UnitOperation.SQRT,
  lanes: (of, _, b) => of.sqrt(b),
  scalar: (of, _, b) => (of.sqrt as (a: Number) => Number)(b),
  exactZero: (of, _, b) => isZero(of, b),
  usesFirst: false,
};
/** ADDSUBPx; with normal numbers, subtracting is adding the opposite. */
export const ADD_SUB: Rule = {
  ...common,
  operation: UnitOperation.ADD_SUB,
  lanes: (of, a, b) => of.add(a, negateEven(of, b)),
  scalar: of2("sub"),
};

export function negateEven(of: Format, a: V128): V128 {
  return v128.xor(a, of === f32x4 ? constant(4, [1 << 31, 0, 1 << 31, 0]) : constant(8, [1n << 63n, 0]));
}

export const RULES: readonly Rule[] = [ADD, SUB, MUL, DIV, SQRT, ADD_SUB];
