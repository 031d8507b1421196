/** Arithmetic on floats: Intel SDM vol. 2. How it is exact: see lanes.ts and checked.ts. */

import { UnitOperation } from "../../vector-unit/operations.ts";
import type { V128 } from "../../wasm/expr.ts";
import { c32 } from "../../wasm/ops.ts";
import { constant, f32x4, type f64x2, i32x4, splat, v128 } from "../../wasm/simd.ts";
import type { Context, Meaning } from "../context.ts";
import { calculateLanes, calculateScalar } from "./checked.ts";
import { type FloatSize, holds, type Lanes, lanesOf, plain, unless } from "./lanes.ts";
import { ADD, ADD_SUB, DIV, MUL, type Rule, SQRT, SUB } from "./rules.ts";
import { type Binary, lanes } from "./vectors.ts";

type Format = typeof f32x4 | typeof f64x2;

const isScalar = (c: Context, size: FloatSize) => c.operands[0]!.size === size;

function arithmetic(rule: Rule, size: FloatSize): Meaning {
  return (c) => {
    if (isScalar(c, size)) {
      const b = { value: c.let(c.readFloat(1, size)), index: 1 };
      c.writeFloat(0, size, calculateScalar(c, rule, size, { value: c.readFloat(0, size), index: 0 }, b));
    } else {
      const b = { value: c.let(c.readVector(1)), index: 1 };
      c.writeVector(0, calculateLanes(c, rule, size, { value: c.readVector(0), index: 0 }, b));
    }
    c.setRegular(0, isScalar(c, size) ? (size === 4 ? "f32" : "f64") : size === 4 ? "f32x4" : "f64x2");
  };
}

/** HADDPx and HSUBPx: neighbours, those of `a` to the lower half of the result and those of `b` to the upper. */
function horizontal(rule: Rule, size: FloatSize): Meaning {
  const even = size === 4 ? [0, 2, 4, 6] : [0, 2];
  const odd = even.map((lane) => lane + 1);
  return (c) => {
    const b = c.let(c.readVector(1));
    const a = c.let(c.readVector(0));
    const [first, second] = [{ value: lanes(size, a, b, even) }, { value: lanes(size, a, b, odd) }];
    c.writeVector(0, calculateLanes(c, rule, size, first, second));
  };
}

/** DPPS and DPPD: the immediate's upper half selects products, its lower half where the sum goes. */
function dotProduct(size: FloatSize): Meaning {
  const count = 16 / size;
  const mask = (bits: number) =>
    constant(
      size,
      Array.from({ length: count }, (_, lane) => ((bits >> lane) & 1 ? -1n : 0n)),
    );
  return (c) => {
    const imm = c.immediate(2);
    const selected = mask(imm >> 4);
    const b = c.let(c.readVector(1));
    const a = v128.and(c.readVector(0), selected);
    let sum = calculateLanes(c, MUL, size, { value: a }, { value: v128.and(b, selected) });
    // Which of two NaNs is first: of singles the neighbour's, then the own half's; of doubles the own.
    const add = (x: V128, y: V128) => calculateLanes(c, ADD, size, { value: x }, { value: y });
    const reordered = (order: number[]) => lanes(size, sum, sum, order);
    if (size === 4) {
      sum = add(reordered([1, 0, 3, 2]), sum);
      sum = add(sum, reordered([2, 3, 0, 1]));
    } else {
      sum = add(sum, reordered([1, 0]));
    }
    c.writeVector(0, v128.and(sum, mask(imm)));
  };
}

/** MINPx and MAXPx return the second operand of two zeros, and when there is a NaN (SDM, MINPS). */
function extreme(operation: number, size: FloatSize, compute: (of: Format) => Binary): Meaning {
  const format = lanesOf(size);
  return (c) => {
    const b = c.let(c.readVector(1));
    const a = c.let(c.readVector(0));
    const code = operation | format.flag | (isScalar(c, size) ? UnitOperation.SCALAR : 0);
    const quiet = quietPair(format, isScalar(c, size), a, b);
    c.writeVector(
      0,
      unless(c, quiet, compute(format.of)(b, a), () => c.vectorUnit(code, a, b)),
    );
  };
}

/** Neither NaNs nor anything denormal: a comparison raises nothing. The first condition is cheaper than the second. */
export function quietPair(format: Lanes, scalar: boolean, a: V128, b: V128) {
  const { of, least } = format;
  return [
    () => holds(format, scalar, v128.and(of.ge(of.pmin(of.abs(a), of.abs(b)), least), of.eq(b, b))),
    () => holds(format, scalar, v128.and(plain(format, a), plain(format, b))),
  ];
}

/**
 * RCPPS and RSQRTPS raise nothing and look their results up: see vector-unit/approximations.ts, which has the rest of
 * them. Of an operand only some bits count; it is taken for the middle of those that share them.
 */
function approximation(
  operation: number,
  ignored: number,
  compute: (middle: V128) => V128,
  half: (a: V128) => V128,
): Meaning {
  const format = lanesOf(4);
  return (c) => {
    const scalar = isScalar(c, 4);
    const a = c.let(c.readVector(1));
    const middle = v128.or(v128.and(a, splat(4, ~ignored)), splat(4, (ignored + 1) >> 1));
    const result = c.let(compute(c.let(middle)));
    const both = f32x4.pmin(f32x4.abs(a), f32x4.abs(result));
    const fine = v128.and(f32x4.gt(both, format.least), f32x4.lt(f32x4.abs(result), format.infinity));
    const rounded = v128.and(i32x4.add(result, half(a)), splat(4, 0xfffff800));
    const code = operation | (scalar ? UnitOperation.SCALAR : 0);
    c.writeVector(
      0,
      unless(c, [() => holds(format, scalar, fine)], rounded, () => c.vectorUnit(code, a, a)),
    );
  };
}

const ONE = splat(4, 0x3f800000);
const reciprocal = approximation(
  UnitOperation.RECIPROCAL,
  0xfff,
  (middle) => f32x4.div(ONE, middle),
  (a) => i32x4.add(splat(4, 0x3ff), v128.and(i32x4.shr_u(a, c32(12)), splat(4, 1))),
);
const reciprocalRoot = approximation(
  UnitOperation.RECIPROCAL_ROOT,
  0x1fff,
  (middle) => f32x4.div(ONE, f32x4.sqrt(middle)),
  () => splat(4, 0x400),
);

/** A rule for each of the four forms of an instruction, such as ADDPS, ADDPD, ADDSS and ADDSD. */
function forms(name: string, meaning: (size: FloatSize) => Meaning): Record<string, Meaning> {
  const single = meaning(4);
  const double = meaning(8);
  return { [`${name}ps`]: single, [`${name}ss`]: single, [`${name}pd`]: double, [`${name}sd`]: double };
}

export const floats: Record<string, Meaning> = {
  ...forms("add", (size) => arithmetic(ADD, size)),
  ...forms("sub", (size) => arithmetic(SUB, size)),
  ...forms("mul", (size) => arithmetic(MUL, size)),
  ...forms("div", (size) => arithmetic(DIV, size)),
  ...forms("sqrt", (size) => arithmetic(SQRT, size)),
  ...forms("min", (size) => extreme(UnitOperation.MIN, size, (of) => of.pmin)),
  ...forms("max", (size) => extreme(UnitOperation.MAX, size, (of) => of.pmax)),
  ...{ addsubps: arithmetic(ADD_SUB, 4), addsubpd: arithmetic(ADD_SUB, 8) },
  ...{ haddps: horizontal(ADD, 4), haddpd: horizontal(ADD, 8) },
  ...{ hsubps: horizontal(SUB, 4), hsubpd: horizontal(SUB, 8) },
  ...{ dpps: dotProduct(4), dppd: dotProduct(8) },
  ...{ rcpps: reciprocal, rcpss: reciprocal, rsqrtps: reciprocalRoot, rsqrtss: reciprocalRoot },
};
