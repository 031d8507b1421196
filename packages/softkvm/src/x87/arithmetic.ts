/**
 * Operations on 80-bit values: exact, then rounded once. Special operands as Intel SDM vol. 1, 4.8.3.5 and 8.5 say; the
 * order of exceptions is that of 8.6: invalid before NaNs, division by zero before denormal operands.
 */

import {
  bitLength,
  type Float80,
  INDEFINITE,
  infinity,
  isNan,
  Kind,
  kindOf,
  negate,
  quiet,
  type Sign,
  zero,
} from "./float80.ts";
import { Exception, precisionOf, Rounding, roundingOf } from "./layout.ts";
import { type Exact, exactly, exactOf, type Result, raising, toExtended } from "./round.ts";

/** Of two values and the control word. */
export type Binary = (a: Float80, b: Float80, control: number) => Result;

export const INVALID: Result = raising(INDEFINITE, Exception.IE);

/** The result that operands which are no numbers force, or undefined when both are numbers. */
export function notNumbers(a: Float80, b: Float80): Result | undefined {
  const kindA = kindOf(a);
  const kindB = kindOf(b);
  if (kindA === Kind.UNSUPPORTED || kindB === Kind.UNSUPPORTED) return INVALID;
  if (!isNan(kindA) && !isNan(kindB)) return undefined;
  const signaling = kindA === Kind.SIGNALING_NAN || kindB === Kind.SIGNALING_NAN;
  return raising(quiet(chooseNan(a, kindA, b, kindB)), signaling ? Exception.IE : 0);
}

/** Table 4-7: a quiet NaN goes before a signaling one, then the greater significand, then the positive one. */
function chooseNan(a: Float80, kindA: Kind, b: Float80, kindB: Kind): Float80 {
  if (!isNan(kindB)) return a;
  if (!isNan(kindA)) return b;
  if (kindA !== kindB) return kindA === Kind.QUIET_NAN ? a : b;
  if (a.significand !== b.significand) return a.significand > b.significand ? a : b;
  return a.sign <= b.sign ? a : b;
}

export function denormalFlag(...values: Float80[]): number {
  return values.some((value) => kindOf(value) === Kind.DENORMAL) ? Exception.DE : 0;
}

export function withFlags(result: Result, flags: number): Result {
  return flags === 0 ? result : { ...result, flags: result.flags | flags };
}

function finish(exact: Exact, control: number, flags: number): Result {
  return withFlags(toExtended(exact, roundingOf(control), precisionOf(control), control), flags);
}

export const add: Binary = (a, b, control) => notNumbers(a, b) ?? addNumbers(a, b, control);
export const subtract: Binary = (a, b, control) => notNumbers(a, b) ?? addNumbers(a, negate(b), control);

/** Beyond so many bits the smaller operand only says that there is something. */
const FAR = 130;

function addNumbers(a: Float80, b: Float80, control: number): Result {
  const kindA = kindOf(a);
  const kindB = kindOf(b);
  const flags = denormalFlag(a, b);
  if (kindA === Kind.INFINITY) {
    return kindB === Kind.INFINITY && a.sign !== b.sign ? INVALID : raising(a, flags);
  }
  if (kindB === Kind.INFINITY) return raising(b, flags);
  const zeroSign: Sign = roundingOf(control) === Rounding.DOWN ? 1 : 0;
  if (kindA === Kind.ZERO && kindB === Kind.ZERO) return exactly(a.sign === b.sign ? a : zero(zeroSign));
  // Adding 0 rounds, too.
  if (kindA === Kind.ZERO) return finish(exactOf(b), control, flags);
  if (kindB === Kind.ZERO) return finish(exactOf(a), control, flags);

  const [high, low] = a.exponent >= b.exponent ? [exactOf(a), exactOf(b)] : [exactOf(b), exactOf(a)];
  const distance = Math.min(high.scale - low.scale, FAR);
  const highBits = high.significand << BigInt(distance);
  const lowBits = distance === FAR ? 1n : low.significand;
  const sum = high.sign === low.sign ? highBits + lowBits : highBits - lowBits;
  if (sum === 0n) return raising(zero(zeroSign), flags);
  const sign = sum > 0n ? high.sign : low.sign;
  const exact = { sign, significand: sum > 0n ? sum : -sum, scale: high.scale - distance, sticky: false };
  return finish(exact, control, flags);
}

const signOf = (a: Float80, b: Float80): Sign => (a.sign === b.sign ? 0 : 1);

export const multiply: Binary = (a, b, control) => {
  const forced = notNumbers(a, b);
  if (forced !== undefined) return forced;
  const kindA = kindOf(a);
  const kindB = kindOf(b);
  const flags = denormalFlag(a, b);
  const sign = signOf(a, b);
  if (kindA === Kind.INFINITY || kindB === Kind.INFINITY) {
    return kindA === Kind.ZERO || kindB === Kind.ZERO ? INVALID : raising(infinity(sign), flags);
  }
  if (kindA === Kind.ZERO || kindB === Kind.ZERO) return raising(zero(sign), flags);
  const [x, y] = [exactOf(a), exactOf(b)];
  return finish({ ...x, sign, significand: x.significand * y.significand, scale: x.scale + y.scale }, control, flags);
};

export const divide: Binary = (a, b, control) => {
  const forced = notNumbers(a, b);
  if (forced !== undefined) return forced;
  const kindA = kindOf(a);
  const kindB = kindOf(b);
  const sign = signOf(a, b);
  if (kindA === Kind.INFINITY) return kindB === Kind.INFINITY ? INVALID : raising(infinity(sign), denormalFlag(b));
  if (kindB === Kind.ZERO) return kindA === Kind.ZERO ? INVALID : raising(infinity(sign), Exception.ZE);
  const flags = denormalFlag(a, b);
  if (kindB === Kind.INFINITY || kindA === Kind.ZERO) return raising(zero(sign), flags);
  const [x, y] = [exactOf(a), exactOf(b)];
  // At least two bits more than are kept.
  const shift = 66 + bitLength(y.significand) - bitLength(x.significand);
  const dividend = x.significand << BigInt(shift);
  const quotient = dividend / y.significand;
  const sticky = quotient * y.significand !== dividend;
  return finish({ sign, significand: quotient, scale: x.scale - y.scale - shift, sticky }, control, flags);
};

export const reversed =
  (operation: Binary): Binary =>
  (a, b, control) =>
    operation(b, a, control);

export function squareRoot(a: Float80, control: number): Result {
  const forced = notNumbers(a, a);
  if (forced !== undefined) return forced;
  const kind = kindOf(a);
  if (kind === Kind.ZERO) return exactly(a);
  if (a.sign === 1) return INVALID;
  if (kind === Kind.INFINITY) return exactly(a);
  const x = exactOf(a);
  let shift = 134 - bitLength(x.significand);
  if ((x.scale - shift) & 1) shift += 1;
  const square = x.significand << BigInt(shift);
  const root = integerRoot(square);
  const sticky = root * root !== square;
  return finish({ sign: 0, significand: root, scale: (x.scale - shift) / 2, sticky }, control, denormalFlag(a));
}

/** Rounded down. */
export function integerRoot(square: bigint): bigint {
  let root = BigInt(Math.floor(Math.sqrt(Number(square))));
  if (root === 0n) return 0n;
  for (;;) {
    const next = (root + square / root) >> 1n;
    const step = next - root;
    if (step === 0n || step === 1n || step === -1n) break;
    root = next;
  }
  while (root * root > square) root -= 1n;
  while ((root + 1n) * (root + 1n) <= square) root += 1n;
  return root;
}

export type Ordering = "less" | "equal" | "greater" | "unordered";

/** `quietly`: only signaling NaNs are invalid. */
export function compare(a: Float80, b: Float80, quietly: boolean): { ordering: Ordering; flags: number } {
  const forced = notNumbers(a, b);
  if (forced !== undefined) {
    return { ordering: "unordered", flags: quietly ? forced.flags : Exception.IE };
  }
  return { ordering: orderNumbers(a, b), flags: denormalFlag(a, b) };
}

function orderNumbers(a: Float80, b: Float80): Ordering {
  if (a.significand === 0n && b.significand === 0n) return "equal";
  if (a.sign !== b.sign) return a.sign === 1 ? "less" : "greater";
  // A pseudo-denormal has the exponent that its integer bit stands for.
  const difference = (a.exponent || 1) - (b.exponent || 1);
  const isZero = a.significand === 0n || b.significand === 0n;
  const magnitude = difference !== 0 && !isZero ? difference : Number(a.significand - b.significand);
  if (magnitude === 0) return "equal";
  return magnitude > 0 === (a.sign === 0) ? "greater" : "less";
}

/** One operand that is no number, or undefined when it is one. */
export function notNumber(a: Float80): Result | undefined {
  return notNumbers(a, a);
}
