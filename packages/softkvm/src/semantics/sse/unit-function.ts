/**
 * The way to the vector unit, for all code: a function in WebAssembly that does what is still common among what the inline
 * checks do not let pass (zeros, infinities as operands, a program that has not been inexact yet), and leaves the rest to
 * TypeScript.
 *
 * Whether a result is exact, arithmetic itself tells by what it leaves over (T. J. Dekker, "A floating-point technique for
 * extending the available precision", 1971): where operands and result are of magnitudes whose errors are numbers, too.
 */

import { State } from "../../cpu/layout.ts";
import { UnitOperation } from "../../vector-unit/operations.ts";
import type { Code } from "../../wasm/code.ts";
import type { I32, V128 } from "../../wasm/expr.ts";
import { c32, call, i32, select } from "../../wasm/ops.ts";
import { constant, splat, v128 } from "../../wasm/simd.ts";
import { type FloatSize, type Lanes, lanesOf, normal, plain, QUIET } from "./lanes.ts";
import { negateEven, RULES, type Rule } from "./rules.ts";

/** How the unit's work ended. */
export const UnitOutcome = {
  DONE: 0,
  FAULT: 1,
  /**
   * Done, but what compiled code relies on does not hold: an operand or the result is denormal or NaN, or MXCSR has
   * changed. The instruction is to be done again.
   */
  IRREGULAR: 3,
} as const;

/** Writes the body of a function of an operation and its argument. `exact` is the index of the one in TypeScript. */
export function writeUnitFunction(code: Code, base: number, exact: number): void {
  const [operation, argument] = code.parameters as unknown as [I32, I32];
  const at = (offset: number) => c32(base + offset);
  const mxcsr = code.let(i32.load(at(State.mxcsr)));
  const isArithmetic = i32.le_u(i32.and(operation, c32(0xff)), c32(UnitOperation.ADD_SUB));
  const a = code.let(v128.load(at(State.transfer)));
  const b = code.let(v128.load(at(State.transfer + 16)));
  // What does not count is 1, of which all results are exact.
  const scalar = code.let(i32.and(operation, c32(UnitOperation.SCALAR)));
  const isDouble = i32.and(operation, c32(UnitOperation.DOUBLE));
  const eachFormat = (write: (size: FloatSize) => void) =>
    code.if(
      isDouble,
      () => write(8),
      () => write(4),
    );
  const lowestOnly = (size: FloatSize, vector: V128): V128 => {
    const [keep, ones] = size === 8 ? [LOW_DOUBLE, UPPER_DOUBLES] : [LOW_SINGLE, UPPER_SINGLES];
    return v128.or(v128.and(vector, keep), ones);
  };

  // What is held back is no flag yet.
  const held = code.let(i32.and(operation, c32(UnitOperation.HOLD)));
  const needed = select(held, c32(QUIET.PM | QUIET.PE), c32(QUIET.PM));
  code.if(i32.and(isArithmetic, i32.eq(i32.and(mxcsr, i32.or(needed, c32(QUIET.RC))), needed)), () => {
    eachFormat((size) => {
      code.if(scalar, () => {
        code.set(a, lowestOnly(size, a));
        code.set(b, lowestOnly(size, b));
      });
      for (const rule of RULES) {
        code.if(i32.eq(i32.and(operation, c32(0xff)), c32(rule.operation)), () => {
          if (!rule.usesFirst) code.set(a, b);
          compute(code, rule, lanesOf(size), a, b, mxcsr, at);
        });
      }
    });
  });

  const faulted = code.let(call("i32", exact, operation, argument));
  code.if(faulted, () => code.return(c32(UnitOutcome.FAULT)));
  code.if(i32.ne(i32.load(at(State.mxcsr)), mxcsr), () => code.return(c32(UnitOutcome.IRREGULAR)));
  code.if(i32.and(isArithmetic, i32.eqz(held)), () => {
    const result = code.let(v128.load(at(State.transfer)));
    code.if(i32.eq(i32.and(operation, c32(0xff)), c32(UnitOperation.SQRT)), () => code.set(a, b));
    eachFormat((size) => {
      for (const value of [a, b, result]) {
        code.if(scalar, () => code.set(value, lowestOnly(size, value)));
        const format = lanesOf(size);
        code.if(i32.eqz(format.allTrue(plain(format, value))), () => code.return(c32(UnitOutcome.IRREGULAR)));
      }
    });
  });
  code.return(c32(UnitOutcome.DONE));
}

const ONE = { 4: 0x3f800000, 8: 0x3ff0000000000000n } as const;
const LOW_SINGLE = constant(4, [-1, 0, 0, 0]);
const LOW_DOUBLE = constant(8, [-1n, 0n]);
const UPPER_SINGLES = constant(4, [0, ONE[4], ONE[4], ONE[4]]);
const UPPER_DOUBLES = constant(8, [0n, ONE[8]]);

/** Returns from the function if the result is the processor's. */
function compute(
  code: Code,
  rule: Rule,
  format: Lanes,
  a: V128,
  b: V128,
  mxcsr: I32,
  at: (offset: number) => I32,
): void {
  const { of } = format;
  const result = code.let(rule.lanes(of, a, b));
  const size = code.let(of.abs(result));
  const zero = of.eq(size, splat(8, 0));
  const exactZero = rule.exactZero(of, a, b);
  const fine = v128.or(normal(format, size), exactZero === undefined ? zero : v128.and(zero, exactZero));
  const allFine = v128.and(fine, v128.and(plain(format, a), plain(format, b)));
  code.if(format.allTrue(allFine), () => {
    const done = (outcome: number) => {
      code.store("v128", at(State.transfer), 0, result);
      code.return(c32(outcome));
    };
    code.if(i32.and(mxcsr, c32(QUIET.PE)), () => done(UnitOutcome.DONE));
    const moderate = [a, b, result].map((value) => isModerate(format, value)).reduce(v128.and);
    code.if(format.allTrue(moderate), () => {
      code.if(v128.any_true(inexact(code, rule, format, a, b, result)), () => {
        code.store("i32", at(State.mxcsr), 0, i32.or(mxcsr, c32(QUIET.PE)));
        done(UnitOutcome.IRREGULAR);
      });
      done(UnitOutcome.DONE);
    });
  });
}

/** Beyond these powers of 2, splitting factors might overflow, or errors be denormal. */
const MODERATE = { 4: 45, 8: 450 } as const;
const FRACTION_BITS = { 4: 23, 8: 52 } as const;
const BIAS = { 4: 127, 8: 1023 } as const;

function powerOf2(size: FloatSize, exponent: number): V128 {
  return splat(size, BigInt(BIAS[size] + exponent) << BigInt(FRACTION_BITS[size]));
}

function isModerate({ of, size }: Lanes, value: V128): V128 {
  const magnitude = of.abs(value);
  const within = v128.and(
    of.gt(magnitude, powerOf2(size, -MODERATE[size])),
    of.lt(magnitude, powerOf2(size, MODERATE[size])),
  );
  return v128.or(within, of.eq(value, splat(8, 0)));
}

/** Lanes in which the result is rounded. */
function inexact(code: Code, rule: Rule, format: Lanes, a: V128, b: V128, result: V128): V128 {
  const { of, size } = format;
  const some = (left: V128) => of.ne(left, splat(8, 0));
  /** Where the product of `x` and `y` is not `whole`. */
  const apart = (x: V128, y: V128, whole: V128) => {
    const product = code.let(of.mul(x, y));
    return v128.or(of.ne(product, whole), some(productError(code, format, x, y, product)));
  };
  switch (rule.operation) {
    case UnitOperation.ADD:
      return some(sumError(code, format, a, b, result));
    case UnitOperation.SUB:
      return some(sumError(code, format, a, code.let(v128.xor(b, splat(size, -1n << BigInt(size * 8 - 1)))), result));
    case UnitOperation.ADD_SUB:
      return some(sumError(code, format, a, code.let(negateEven(of, b)), result));
    case UnitOperation.MUL:
      return some(productError(code, format, a, b, result));
    case UnitOperation.DIV:
      return apart(result, b, a);
    default:
      return apart(result, result, b);
  }
}

function sumError(code: Code, { of }: Lanes, a: V128, b: V128, sum: V128): V128 {
  const second = code.let(of.sub(sum, a));
  return of.add(of.sub(a, of.sub(sum, second)), of.sub(b, second));
}

function productError(code: Code, format: Lanes, a: V128, b: V128, product: V128): V128 {
  const { of } = format;
  const [highA, lowA] = halves(code, format, a);
  const [highB, lowB] = halves(code, format, b);
  const rest = of.sub(of.sub(of.sub(product, of.mul(highA, highB)), of.mul(lowA, highB)), of.mul(highA, lowB));
  return of.sub(of.mul(lowA, lowB), rest);
}

/** Splits numbers into halves whose products are exact. */
function halves(code: Code, { of, size }: Lanes, value: V128): [V128, V128] {
  const splitter = size === 4 ? splat(4, 0x45800800) : splat(8, 0x41a0000002000000n);
  const big = code.let(of.mul(value, splitter));
  const high = code.let(of.sub(big, of.sub(big, value)));
  return [high, code.let(of.sub(value, high))];
}
