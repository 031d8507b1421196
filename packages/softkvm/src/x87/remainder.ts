/** FPREM, FPREM1, FSCALE, FXTRACT and FRNDINT (Intel SDM vol. 2). */

import { denormalFlag, INVALID, notNumber, notNumbers, withFlags } from "./arithmetic.ts";
import { fromInteger } from "./convert.ts";
import { BIAS, type Float80, INTEGER_BIT, infinity, Kind, kindOf, logarithmOf, zero } from "./float80.ts";
import { Exception, roundingOf } from "./layout.ts";
import { exactly, exactOf, type Result, raising, roundToInteger, toExtended } from "./round.ts";

export interface Remainder {
  readonly result: Result;
  /** Its low three bits; undefined when operands that are no numbers leave none. */
  readonly quotient: number | undefined;
  readonly complete: boolean;
}

const without = (result: Result): Remainder => ({ result, quotient: undefined, complete: true });
const done = (result: Result): Remainder => ({ result, quotient: 0, complete: true });

export function remainder(a: Float80, b: Float80, toNearest: boolean, control: number): Remainder {
  const forced = notNumbers(a, b);
  if (forced !== undefined) return without(forced);
  const kindA = kindOf(a);
  const kindB = kindOf(b);
  if (kindA === Kind.INFINITY || kindB === Kind.ZERO) return without(INVALID);
  const flags = denormalFlag(a, b);
  if (kindA === Kind.ZERO) return done(raising(a, flags));
  // A denormal result is no underflow here, but a pseudo-denormal one becomes normal.
  if (kindB === Kind.INFINITY) return done(raising({ ...a, exponent: normalExponent(a) }, flags));

  const [x, y] = [exactOf(a), exactOf(b)];
  const distance = logarithmOf(a) - logarithmOf(b);
  // The result is a multiple of the finer of the two units.
  const unit = Math.min(x.scale, y.scale);
  let dividend = x.significand << BigInt(x.scale - unit);
  const divisor = y.significand << BigInt(y.scale - unit);
  let quotient = 0n;
  let { sign } = a;
  const complete = distance < 64;
  if (complete) {
    quotient = dividend / divisor;
    dividend -= quotient * divisor;
    const twice = dividend << 1n;
    if (toNearest && (twice > divisor || (twice === divisor && quotient & 1n))) {
      dividend = divisor - dividend;
      quotient += 1n;
      sign = sign === 0 ? 1 : 0;
    }
  } else {
    // As many bits of the quotient as leave a multiple of 32 for the next time.
    const left = divisor << BigInt(distance - ((distance & 31) | 32));
    dividend %= left;
  }
  // A remainder of 0 has the sign of the dividend.
  const result =
    dividend === 0n
      ? exactly(zero(a.sign))
      : toExtended({ sign, significand: dividend, scale: unit, sticky: false }, roundingOf(control), 64, control);
  return { result: withFlags(result, flags), quotient: Number(quotient & 7n), complete };
}

function normalExponent({ exponent, significand }: Float80): number {
  return exponent === 0 && significand >= INTEGER_BIT ? 1 : exponent;
}

/** `a * 2 ** b`, with b rounded towards 0. */
export function scale(a: Float80, b: Float80, control: number): Result {
  const forced = notNumbers(a, b);
  if (forced !== undefined) return forced;
  const kindA = kindOf(a);
  const kindB = kindOf(b);
  const flags = denormalFlag(a, b);
  if (kindB === Kind.INFINITY) {
    if (b.sign === 0) return kindA === Kind.ZERO ? INVALID : raising(infinity(a.sign), flags);
    return kindA === Kind.INFINITY ? INVALID : raising(zero(a.sign), flags);
  }
  if (kindA === Kind.INFINITY || kindA === Kind.ZERO) return raising(a, flags);
  const magnitude = b.exponent > BIAS + 16 ? 0x20000 : Number(b.significand >> BigInt(BIAS + 63 - b.exponent));
  const by = b.exponent < BIAS ? 0 : b.sign === 1 ? -magnitude : magnitude;
  const x = exactOf(a);
  return withFlags(toExtended({ ...x, scale: x.scale + by }, roundingOf(control), 64, control), flags);
}

/** The exponent, which stays, and the significand, which goes above it. */
export function extract(value: Float80): { below: Float80; above: Float80; flags: number } {
  const forced = notNumber(value);
  if (forced !== undefined) return { below: forced.value, above: forced.value, flags: forced.flags };
  const kind = kindOf(value);
  if (kind === Kind.ZERO) return { below: infinity(1), above: value, flags: Exception.ZE };
  if (kind === Kind.INFINITY) return { below: infinity(0), above: value, flags: 0 };
  const logarithm = logarithmOf(value);
  const shift = BigInt(logarithm - exactOf(value).scale);
  const above = { sign: value.sign, exponent: BIAS, significand: value.significand << (63n - shift) };
  return { below: fromInteger(BigInt(logarithm)), above, flags: denormalFlag(value) };
}

export function roundToIntegral(value: Float80, control: number): Result {
  const forced = notNumber(value);
  if (forced !== undefined) return forced;
  const kind = kindOf(value);
  if (kind === Kind.ZERO || kind === Kind.INFINITY || value.exponent >= BIAS + 63) return exactly(value);
  const { magnitude, inexact, up } = roundToInteger(exactOf(value), roundingOf(control));
  const rounded = magnitude === 0n ? zero(value.sign) : { ...fromInteger(magnitude), sign: value.sign };
  return { value: rounded, flags: (inexact ? Exception.PE : 0) | denormalFlag(value), up };
}
