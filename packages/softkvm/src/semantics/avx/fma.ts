/** FMA: Intel SDM vol. 2. Fast where the host's multiplication with addition rounds once; how it is exact: see lanes.ts. */

import { Negate, UnitOperation } from "../../vector-unit/operations.ts";
import type { V128 } from "../../wasm/expr.ts";
import { isFused } from "../../wasm/fused.ts";
import { c32, i32 } from "../../wasm/ops.ts";
import { constant, splat, v128 } from "../../wasm/simd.ts";
import type { Context, Meaning } from "../context.ts";
import { type FloatSize, holds, inexactIsQuiet, type Lanes, lanesOf, normal, plain, unless } from "../sse/lanes.ts";
import { zeros } from "../sse/vectors.ts";
import { vex } from "./vex.ts";

/** A vector with the signs of even and odd lanes changed. */
function withSigns(size: FloatSize, a: V128, even: boolean, odd: boolean): V128 {
  if (!even && !odd) return a;
  const sign = 1n << BigInt(size * 8 - 1);
  const signs = Array.from({ length: 16 / size }, (_, lane) => ((lane & 1 ? odd : even) ? sign : 0n));
  return v128.xor(a, constant(size, signs));
}

/** The product of two vectors and the third added, with signs changed as `Negate` says. */
function multiplyAdd(c: Context, format: Lanes, scalar: boolean, negate: number, operands: readonly V128[]): V128 {
  const { of, size } = format;
  const [a, b, addend] = operands.map((operand) => c.let(operand)) as [V128, V128, V128];
  const code = UnitOperation.MULTIPLY_ADD | format.flag | (scalar ? UnitOperation.SCALAR : 0);
  const exact = () => c.vectorUnit(code, a, b, c32(negate), addend);
  if (!isFused()) return exact();
  const product = (negate & Negate.PRODUCT) !== 0;
  const signed = withSigns(size, addend, (negate & Negate.EVEN) !== 0, (negate & Negate.ODD) !== 0);
  const result = c.let(of.relaxed_madd(withSigns(size, a, product, product), b, signed));
  const magnitude = c.let(of.abs(result));
  const least = of.pmin(of.pmin(of.abs(a), of.abs(b)), of.pmin(of.abs(addend), magnitude));
  const allNormal = v128.and(of.gt(least, format.least), of.lt(magnitude, format.infinity));
  const allPlain = () => {
    const isZero = (value: V128) => of.eq(value, zeros());
    // A result of 0 is exact but for a product that has become too small.
    const exactZero = v128.or(v128.or(isZero(a), isZero(b)), v128.andnot(splat(8, -1n), isZero(addend)));
    const fine = v128.or(normal(format, magnitude), v128.and(isZero(magnitude), exactZero));
    return v128.and(v128.and(fine, plain(format, addend)), v128.and(plain(format, a), plain(format, b)));
  };
  return unless(
    c,
    [
      () => i32.and(inexactIsQuiet(c), holds(format, scalar, allNormal)),
      () => i32.and(inexactIsQuiet(c), holds(format, scalar, allPlain())),
    ],
    result,
    exact,
  );
}

/** The digits of a name: the operands that are multiplied, and the one that is added. */
const ORDERS = ["132", "213", "231"];

const KINDS: Readonly<Record<string, number>> = {
  vfmadd: 0,
  vfmsub: Negate.EVEN | Negate.ODD,
  vfnmadd: Negate.PRODUCT,
  vfnmsub: Negate.PRODUCT | Negate.EVEN | Negate.ODD,
  vfmaddsub: Negate.EVEN,
  vfmsubadd: Negate.ODD,
};

function meaning(order: string, size: FloatSize, negate: number): Meaning {
  const operands = Array.from(order, (digit) => Number(digit) - 1);
  return (c) => {
    const scalar = c.operands[0]!.size === size;
    const values = operands.map((index) => c.readVector(index));
    c.writeVector(0, multiplyAdd(c, lanesOf(size), scalar, negate, values));
  };
}

function* forms(): Generator<[name: string, meaning: Meaning]> {
  for (const [kind, negate] of Object.entries(KINDS)) {
    for (const order of ORDERS) {
      for (const size of [4, 8] as const) {
        const of = meaning(order, size, negate);
        const letter = size === 4 ? "s" : "d";
        yield [`${kind}${order}p${letter}`, vex(of)];
        if (!/addsub|subadd/.test(kind)) yield [`${kind}${order}s${letter}`, vex(of, { scalar: size })];
      }
    }
  }
}

export const fma: Record<string, Meaning> = Object.fromEntries(forms());
