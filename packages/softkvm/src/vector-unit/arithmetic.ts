/** Arithmetic on floats as SSE does it: Intel SDM vol. 1, 4.8.3.5 and table 11-1, vol. 2. All values are encoded bits. */

import {
  bitLength,
  compare,
  convertNan,
  type Float,
  type Format,
  HALF,
  indefinite,
  infinity,
  isNan,
  quieted,
  SINGLE,
  unpack,
  zero,
} from "./format.ts";
import { dropBits, type Environment, Exception, Rounding, round } from "./rounding.ts";

type Binary = (format: Format, a: bigint, b: bigint, environment: Environment) => bigint;
type Unary = (format: Format, a: bigint, environment: Environment) => bigint;

/** A float, or the zero that DAZ takes it for. */
function operand(format: Format, bits: bigint, environment: Environment): Float {
  const float = unpack(format, bits);
  if (float.kind !== "denormal" || !environment.denormalsAreZeros) return float;
  return unpack(format, zero(format, float.negative));
}

/** The first NaN of the two, quiet. */
function propagate(format: Format, a: Float, b: Float, environment: Environment): bigint {
  if (a.kind === "signaling" || b.kind === "signaling") environment.before |= Exception.INVALID;
  return quieted(format, isNan(a) ? a.bits : b.bits);
}

function invalid(format: Format, environment: Environment): bigint {
  environment.before |= Exception.INVALID;
  return indefinite(format);
}

function noteDenormals(environment: Environment, ...floats: Float[]): void {
  if (floats.some(({ kind }) => kind === "denormal")) environment.before |= Exception.DENORMAL;
}

function binary(
  compute: (format: Format, a: Float, b: Float, environment: Environment) => bigint | "invalid" | "zero divide",
): Binary {
  return (format, aBits, bBits, environment) => {
    const a = operand(format, aBits, environment);
    const b = operand(format, bBits, environment);
    if (isNan(a) || isNan(b)) return propagate(format, a, b, environment);
    const result = compute(format, a, b, environment);
    if (result === "invalid") return invalid(format, environment);
    if (result === "zero divide") {
      environment.before |= Exception.ZERO_DIVIDE;
      return infinity(format, a.negative !== b.negative);
    }
    noteDenormals(environment, a, b);
    return result;
  };
}

function sum(format: Format, a: Float, b: Float, bNegative: boolean, environment: Environment): bigint | "invalid" {
  if (a.kind === "infinity" || b.kind === "infinity") {
    if (a.kind === b.kind && a.negative !== bNegative) return "invalid";
    return infinity(format, a.kind === "infinity" ? a.negative : bNegative);
  }
  const exponent = Math.min(a.exponent, b.exponent);
  const term = (float: Float, negative: boolean) => {
    const magnitude = float.significand << BigInt(float.exponent - exponent);
    return negative ? -magnitude : magnitude;
  };
  const total = term(a, a.negative) + term(b, bNegative);
  if (total === 0n) {
    const both = a.kind === "zero" && b.kind === "zero" && a.negative === bNegative;
    return zero(format, both ? a.negative : environment.rounding === Rounding.DOWN);
  }
  return round(format, total < 0n, total < 0n ? -total : total, exponent, environment);
}

export const add = binary((format, a, b, environment) => sum(format, a, b, b.negative, environment));
export const subtract = binary((format, a, b, environment) => sum(format, a, b, !b.negative, environment));

export const multiply = binary((format, a, b, environment) => {
  const negative = a.negative !== b.negative;
  const kinds = [a.kind, b.kind];
  if (kinds.includes("infinity")) return kinds.includes("zero") ? "invalid" : infinity(format, negative);
  if (kinds.includes("zero")) return zero(format, negative);
  return round(format, negative, a.significand * b.significand, a.exponent + b.exponent, environment);
});

export const divide = binary((format, a, b, environment) => {
  const negative = a.negative !== b.negative;
  if (a.kind === b.kind && (a.kind === "infinity" || a.kind === "zero")) return "invalid";
  if (a.kind === "infinity") return infinity(format, negative);
  if (b.kind === "infinity" || a.kind === "zero") return zero(format, negative);
  if (b.kind === "zero") return "zero divide";
  // Two bits more than the result has, and one that says whether anything is left.
  const shift = format.precision * 2 + 2;
  const dividend = a.significand << BigInt(shift);
  const quotient = dividend / b.significand;
  const sticky = quotient * b.significand === dividend ? 0n : 1n;
  return round(format, negative, (quotient << 1n) | sticky, a.exponent - b.exponent - shift - 1, environment);
});

export const squareRoot: Unary = (format, bits, environment) => {
  const a = operand(format, bits, environment);
  if (isNan(a)) return propagate(format, a, a, environment);
  if (a.kind === "zero") return a.bits;
  if (a.negative) return invalid(format, environment);
  if (a.kind === "infinity") return a.bits;
  noteDenormals(environment, a);
  const shift = format.precision * 2 + 4 + ((a.exponent + format.precision * 2 + 4) & 1);
  const even = a.significand << BigInt(shift);
  const root = integerRoot(even);
  const sticky = root * root === even ? 0n : 1n;
  return round(format, false, (root << 1n) | sticky, (a.exponent - shift) / 2 - 1, environment);
};

function integerRoot(value: bigint): bigint {
  let root = 1n << BigInt((bitLength(value) + 1) >> 1);
  for (;;) {
    const next = (root + value / root) >> 1n;
    if (next >= root) return root;
    root = next;
  }
}

/** `a * b + c` rounded once (SDM vol. 1, 14.5). NaNs count in this order; of the signs, they keep theirs. */
export function multiplyAdd(
  format: Format,
  [aBits, bBits, cBits]: readonly [bigint, bigint, bigint],
  negated: { readonly product: boolean; readonly addend: boolean },
  environment: Environment,
): bigint {
  const a = operand(format, aBits, environment);
  const b = operand(format, bBits, environment);
  const c = operand(format, cBits, environment);
  const nan = [a, b, c].find(isNan);
  if (nan !== undefined) {
    if ([a, b, c].some(({ kind }) => kind === "signaling")) environment.before |= Exception.INVALID;
    return quieted(format, nan.bits);
  }
  const negative = (a.negative !== b.negative) !== negated.product;
  const addend = { ...c, negative: c.negative !== negated.addend };
  const factors = [a.kind, b.kind];
  let kind: Float["kind"] = "normal";
  if (factors.includes("infinity")) {
    if (factors.includes("zero")) return invalid(format, environment);
    kind = "infinity";
  } else if (factors.includes("zero")) kind = "zero";
  const significand = kind === "zero" ? 0n : a.significand * b.significand;
  const product: Float = { kind, negative, significand, exponent: a.exponent + b.exponent, bits: 0n };
  const result = sum(format, product, addend, addend.negative, environment);
  if (result === "invalid") return invalid(format, environment);
  noteDenormals(environment, a, b, c);
  return result;
}

/** VCVTPH2PS: exact, and denormal numbers are numbers whatever MXCSR says. */
export function fromHalf(bits: bigint, environment: Environment): bigint {
  const a = unpack(HALF, bits);
  if (isNan(a)) return convert(HALF, SINGLE, bits, environment);
  if (a.kind === "infinity") return infinity(SINGLE, a.negative);
  if (a.kind === "zero") return zero(SINGLE, a.negative);
  return round(SINGLE, a.negative, a.significand, a.exponent, environment);
}

/** VCVTPS2PH: a denormal number is inexact in any case, also for a handler of the underflow. */
export function toHalf(bits: bigint, environment: Environment): bigint {
  const result = convert(SINGLE, HALF, bits, environment);
  if (environment.before & Exception.DENORMAL) environment.after |= Exception.INEXACT;
  return result;
}

/** MINPS and MAXPS: the second operand unless the first is less, or greater. */
export const extreme = (sign: number): Binary => {
  return (format, aBits, bBits, environment) => {
    const a = operand(format, aBits, environment);
    const b = operand(format, bBits, environment);
    if (isNan(a) || isNan(b)) {
      environment.before |= Exception.INVALID;
      return b.bits;
    }
    noteDenormals(environment, a, b);
    return compare(a, b) === sign ? a.bits : b.bits;
  };
};

/** The relations that hold for each predicate: less, equal, greater and unordered as bits 0 to 3 (SDM, table 3-1). */
const RELATIONS = [
  ...[0b0010, 0b0001, 0b0011, 0b1000, 0b1101, 0b1110, 0b1100, 0b0111],
  ...[0b1010, 0b1001, 0b1011, 0b0000, 0b0101, 0b0110, 0b0100, 0b1111],
];
/** Predicates that take offence at any NaN, of the first sixteen; of the others it is the rest. */
const SIGNALING = 0b0110_0110_0110_0110;

function relation(format: Format, aBits: bigint, bBits: bigint, quiet: boolean, environment: Environment): number {
  const a = operand(format, aBits, environment);
  const b = operand(format, bBits, environment);
  if (isNan(a) || isNan(b)) {
    if (!quiet || a.kind === "signaling" || b.kind === "signaling") environment.before |= Exception.INVALID;
    return 0b1000;
  }
  noteDenormals(environment, a, b);
  return 1 << (compare(a, b) + 1);
}

/** CMPPS, and with predicates up to 31 VCMPPS. */
export function holdsFor(predicate: number, format: Format, a: bigint, b: bigint, environment: Environment): boolean {
  const which = predicate & 15;
  const signaling = ((SIGNALING >> which) & 1) !== predicate >> 4;
  return (RELATIONS[which]! & relation(format, a, b, !signaling, environment)) !== 0;
}

/** COMISS and UCOMISS: ZF, PF and CF. */
export function flagsOf(format: Format, a: bigint, b: bigint, quiet: boolean, environment: Environment): number {
  switch (relation(format, a, b, quiet, environment)) {
    case 0b0001:
      return 0x01;
    case 0b0010:
      return 0x40;
    case 0b0100:
      return 0x00;
    default:
      return 0x45;
  }
}

export function convert(from: Format, to: Format, bits: bigint, environment: Environment): bigint {
  const a = operand(from, bits, environment);
  if (isNan(a)) {
    if (a.kind === "signaling") environment.before |= Exception.INVALID;
    return convertNan(from, to, a);
  }
  if (a.kind === "infinity") return infinity(to, a.negative);
  if (a.kind === "zero") return zero(to, a.negative);
  noteDenormals(environment, a);
  return round(to, a.negative, a.significand, a.exponent, environment);
}

export function fromInteger(format: Format, value: bigint, environment: Environment): bigint {
  if (value === 0n) return 0n;
  return round(format, value < 0n, value < 0n ? -value : value, 0, environment);
}

/** To a signed integer of so many bits; what does not fit is its most negative. Denormal numbers raise nothing. */
export function toInteger(
  format: Format,
  bits: bigint,
  width: 32 | 64,
  rounding: number,
  environment: Environment,
): bigint {
  const a = operand(format, bits, environment);
  const least = -1n << BigInt(width - 1);
  if (!isNan(a) && a.kind !== "infinity" && a.exponent < width) {
    const [magnitude, exact] = dropBits(a.significand, -a.exponent, a.negative, rounding);
    const value = a.negative ? -magnitude : magnitude;
    if (value >= least && value < -least) {
      if (!exact) environment.after |= Exception.INEXACT;
      return value;
    }
  }
  environment.before |= Exception.INVALID;
  return least;
}

/** ROUNDPS, whose immediate says how to round and whether that may be noticed. */
export function roundToIntegral(format: Format, bits: bigint, immediate: number, environment: Environment): bigint {
  const a = operand(format, bits, environment);
  if (isNan(a)) return propagate(format, a, a, environment);
  if (a.kind === "zero" || a.kind === "infinity" || a.exponent >= 0) return a.bits;
  const rounding = immediate & 4 ? environment.rounding : immediate & 3;
  const [magnitude, exact] = dropBits(a.significand, -a.exponent, a.negative, rounding);
  if (!exact && !(immediate & 8)) environment.after |= Exception.INEXACT;
  // An integer below 2^precision is exact, so that nothing is rounded here.
  return magnitude === 0n ? zero(format, a.negative) : round(format, a.negative, magnitude, 0, environment);
}
