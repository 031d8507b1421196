/**
 * Transcendental instructions (Intel SDM vol. 1, 8.3.7 to 8.3.11; vol. 2 for special operands). Here a result is the exact
 * one, rounded correctly; a processor's is within one unit in the last place of that. Sine, cosine and tangent are those
 * of the operand reduced by a pi of 66 bits, as Intel documents; AMD's processors reduce differently. Precision control
 * does not count.
 */

import { denormalFlag, INVALID, integerRoot, notNumber, notNumbers, withFlags } from "./arithmetic.ts";
import { fromInteger } from "./convert.ts";
import {
  BIAS,
  bitLength,
  type Float80,
  INTEGER_BIT,
  infinity,
  Kind,
  kindOf,
  logarithmOf,
  one,
  type Sign,
  zero,
} from "./float80.ts";
import { atanh, atanSmall, expm1, ln2, pi, sineCosine } from "./functions.ts";
import { Exception, roundingOf } from "./layout.ts";
import { type Exact, exactly, exactOf, type Result, raising, toExtended } from "./round.ts";

/** Bits of results before they are rounded. */
const WORKING = 140;
/** Below `2 ** -TINY` the first term of a series is the result but for something to round by. */
const TINY = 70;

function finish(exact: Exact, control: number, flags = 0): Result {
  return withFlags(toExtended(exact, roundingOf(control), 64, control), flags);
}

/** A fixed-point number as a result; never exact. */
function fixed(value: bigint, bits: number): Exact {
  const sign = value < 0n ? 1 : 0;
  return { sign, significand: sign === 1 ? -value : value, scale: -bits, sticky: true };
}

function toFixed({ sign, significand, scale }: Exact, bits: number): bigint {
  const shift = scale + bits;
  const magnitude = shift >= 0 ? significand << BigInt(shift) : significand >> BigInt(-shift);
  return sign === 1 ? -magnitude : magnitude;
}

/** A little more, or less, than a value. */
function beside({ sign, significand, scale }: Exact, more: boolean): Exact {
  const wide = significand << 80n;
  return { sign, significand: more ? wide : wide - 1n, scale: scale - 80, sticky: true };
}

function times(a: Exact, b: Exact): Exact {
  return {
    sign: a.sign === b.sign ? 0 : 1,
    significand: a.significand * b.significand,
    scale: a.scale + b.scale,
    sticky: a.sticky || b.sticky,
  };
}

const LN2: Exact = { sign: 0, significand: ln2(WORKING), scale: -WORKING, sticky: true };
const LOG2_E: Exact = {
  sign: 0,
  significand: (1n << BigInt(2 * WORKING)) / ln2(WORKING),
  scale: -WORKING,
  sticky: true,
};

/** F2XM1: `2 ** x - 1` for x from -1 to 1. */
export function exponentialMinus1(x: Float80, control: number): Result {
  const forced = notNumber(x);
  if (forced !== undefined) return forced;
  const kind = kindOf(x);
  if (kind === Kind.ZERO) return exactly(x);
  if (kind === Kind.INFINITY) return exactly(x.sign === 1 ? one(1) : x);
  const flags = denormalFlag(x);
  // Beyond the range no result is defined: the operand stays, and counts as inexact.
  if (x.exponent >= BIAS && !isOne(x, 1)) return raising(x, Exception.PE);
  const logarithm = logarithmOf(x);
  if (logarithm < -TINY) return finish(times(exactOf(x), LN2), control, flags);
  const bits = WORKING - logarithm;
  const y = (toFixed(exactOf(x), bits) * ln2(bits)) >> BigInt(bits);
  return finish(fixed(expm1(y, bits), bits), control, flags);
}

function isOne({ exponent, significand, sign }: Float80, of: Sign): boolean {
  return exponent === BIAS && significand === INTEGER_BIT && sign === of;
}

/** The binary logarithm of a number above 0. Processors know no exact ones: those of powers of 2 are a little less. */
function logarithm2({ significand: m, scale }: Exact): Exact {
  let unit = bitLength(m) - 1;
  if ((m & (m - 1n)) === 0n) {
    const exact = exactOf(fromInteger(BigInt(unit + scale)));
    return beside(exact, false);
  }
  // The significand from about 0.7 to 1.4, so that its logarithm is small.
  if (m * m > 1n << BigInt(2 * unit + 1)) unit += 1;
  const u = 1n << BigInt(unit);
  const bits = WORKING + 66;
  const z = ((m - u) << BigInt(bits)) / (m + u);
  const fraction = (2n * atanh(z, bits) * LOG2_E.significand) >> BigInt(WORKING);
  return fixed((BigInt(unit + scale) << BigInt(bits)) + fraction, bits);
}

/** FYL2X: `y * log2(x)`. */
export function logarithmTimes(y: Float80, x: Float80, control: number): Result {
  const forced = notNumbers(x, y);
  if (forced !== undefined) return forced;
  const [kindX, kindY] = [kindOf(x), kindOf(y)];
  if (kindX === Kind.ZERO) {
    if (kindY === Kind.ZERO) return INVALID;
    const flags = kindY === Kind.INFINITY ? 0 : Exception.ZE;
    return raising(infinity(y.sign === 0 ? 1 : 0), flags);
  }
  if (x.sign === 1) return INVALID;
  const flags = denormalFlag(x, y);
  if (kindX === Kind.INFINITY) {
    return kindY === Kind.ZERO ? INVALID : raising(infinity(y.sign), flags);
  }
  const below = logarithmOf(x) < 0;
  const sign: Sign = below ? (y.sign === 0 ? 1 : 0) : y.sign;
  if (kindY === Kind.INFINITY) return isOne(x, 0) ? INVALID : raising(infinity(sign), flags);
  if (kindY === Kind.ZERO) return raising(zero(sign), flags);
  if (isOne(x, 0)) return raising(zero(y.sign), flags);
  return finish(times(exactOf(y), logarithm2(exactOf(x))), control, flags);
}

/** FYL2XP1: `y * log2(x + 1)` for |x| up to 1 - sqrt(1/2). */
export function logarithmPlus1Times(y: Float80, x: Float80, control: number): Result {
  const forced = notNumbers(x, y);
  if (forced !== undefined) return forced;
  const [kindX, kindY] = [kindOf(x), kindOf(y)];
  const flags = denormalFlag(x, y);
  const sign: Sign = x.sign === y.sign ? 0 : 1;
  if (kindX === Kind.INFINITY) {
    if (x.sign === 1 || kindY === Kind.ZERO) return INVALID;
    return raising(infinity(y.sign), flags);
  }
  if (kindY === Kind.INFINITY) return kindX === Kind.ZERO ? INVALID : raising(infinity(sign), flags);
  if (kindX === Kind.ZERO || kindY === Kind.ZERO) return raising(zero(sign), flags);
  const logarithm = logarithmOf(x);
  const exact = exactOf(x);
  if (logarithm < -TINY) return finish(times(times(exactOf(y), exact), LOG2_E), control, flags);
  if (logarithm < -2) {
    const bits = WORKING - logarithm;
    const v = toFixed(exact, bits);
    const z = (v << BigInt(bits)) / ((2n << BigInt(bits)) + v);
    const log = (2n * atanh(z, bits) * LOG2_E.significand) >> BigInt(WORKING);
    return finish(times(exactOf(y), fixed(log, bits)), control, flags);
  }
  // Not defined any more, but processors know what is meant, down to -1.
  if (x.sign === 1 && logarithm >= 0) return raising(x, flags | Exception.PE);
  if (logarithm > 2 * TINY) return finish(times(exactOf(y), logarithm2(beside(exact, true))), control, flags);
  const scale = Math.min(exact.scale, 0);
  const sum = (1n << BigInt(-scale)) + toFixed(exact, -scale);
  return finish(times(exactOf(y), logarithm2({ sign: 0, significand: sum, scale, sticky: false })), control, flags);
}

/** Intel's pi: 66 bits. */
const PI_66 = 0xc90fdaa22168c234cn;
const PI_66_SCALE = -66;

interface Reduced {
  /** Quarter turns, modulo 4. */
  readonly quadrant: number;
  /** From -pi/4 to pi/4, as a fixed-point number with so many bits, of which {@link WORKING} matter. */
  readonly rest: bigint;
  readonly bits: number;
}

function reduce(x: Float80): Reduced {
  const exact = exactOf(x);
  // In units that hold both the operand and half of pi.
  const scale = Math.min(exact.scale, PI_66_SCALE - 1);
  const half = PI_66 << BigInt(PI_66_SCALE - 1 - scale);
  const magnitude = exact.significand << BigInt(exact.scale - scale);
  const turns = (2n * magnitude + half) / (2n * half);
  const rest = magnitude - turns * half;
  const signed = x.sign === 1 ? -rest : rest;
  const quadrant = Number(turns & 3n);
  const size = bitLength(rest < 0n ? -rest : rest);
  const bits = Math.max(-scale, WORKING - scale - size);
  return { quadrant: x.sign === 1 ? -quadrant & 3 : quadrant, rest: signed << BigInt(bits + scale), bits };
}

/** Beyond 2 ** 63 FSIN and its kin leave their operand and set C2. */
export function isTooLarge(x: Float80): boolean {
  return kindOf(x) === Kind.NORMAL && x.exponent >= BIAS + 63;
}

/** Below `2 ** -68` processors take an angle for its sine and tangent, in every rounding mode, and 1 for its cosine. */
const NEGLIGIBLE = -68;

function isNegligible(x: Float80): boolean {
  return logarithmOf(x) < NEGLIGIBLE;
}

/** The operand as an inexact result. */
function itself(x: Float80, control: number): Result {
  const result = toExtended(exactOf(x), roundingOf(control), 64, control);
  const tiny = result.value.exponent === 0 ? Exception.UE : 0;
  return withFlags(result, Exception.PE | tiny | denormalFlag(x));
}

interface Rotation {
  readonly sine: Exact;
  readonly cosine: Exact;
}

function rotation(x: Float80): Rotation {
  const { quadrant, rest, bits } = reduce(x);
  const { sine, cosine } = sineCosine(rest, bits);
  const [s, c] = quadrant & 1 ? [cosine, -sine] : [sine, cosine];
  const turned = quadrant & 2 ? [-s, -c] : [s, c];
  return { sine: fixed(turned[0]!, bits), cosine: fixed(turned[1]!, bits) };
}

/** What FSIN, FCOS, FSINCOS and FPTAN have in common: `forced` for all results. */
function special(x: Float80): Result | undefined {
  const forced = notNumber(x);
  if (forced !== undefined) return forced;
  return kindOf(x) === Kind.INFINITY ? INVALID : undefined;
}

export function sine(x: Float80, control: number): Result {
  const forced = special(x);
  if (forced !== undefined) return forced;
  if (kindOf(x) === Kind.ZERO) return exactly(x);
  if (isNegligible(x)) return itself(x, control);
  return finish(rotation(x).sine, control, denormalFlag(x));
}

export function cosine(x: Float80, control: number): Result {
  const forced = special(x);
  if (forced !== undefined) return forced;
  if (kindOf(x) === Kind.ZERO) return exactly(one(0));
  if (isNegligible(x)) return raising(one(0), Exception.PE | denormalFlag(x));
  return finish(rotation(x).cosine, control, denormalFlag(x));
}

export interface Two {
  readonly below: Float80;
  readonly above: Float80;
  readonly flags: number;
  readonly up: boolean;
}

const both = ({ value, flags }: Result): Two => ({ below: value, above: value, flags, up: false });

/** FSINCOS: the sine, and above it the cosine. */
export function sineAndCosine(x: Float80, control: number): Two {
  const forced = special(x);
  if (forced !== undefined) return both(forced);
  const [s, c] = [sine(x, control), cosine(x, control)];
  return { below: s.value, above: c.value, flags: s.flags | c.flags, up: c.up };
}

/** FPTAN: the tangent, and above it 1. */
export function tangent(x: Float80, control: number): Two {
  const forced = special(x);
  if (forced !== undefined) return both(forced);
  if (kindOf(x) === Kind.ZERO) return { below: x, above: one(0), flags: 0, up: false };
  const { value, flags, up } = isNegligible(x) ? itself(x, control) : finish(tangentOf(x), control);
  return { below: value, above: one(0), flags, up };
}

function tangentOf(x: Float80): Exact {
  // Processors take a little less than the angle for a little more.
  if (logarithmOf(x) < -33) return beside(exactOf(x), false);
  const { sine: s, cosine: c } = rotation(x);
  const significand = (s.significand << BigInt(2 * WORKING)) / c.significand;
  return { sign: s.sign === c.sign ? 0 : 1, significand, scale: -2 * WORKING, sticky: true };
}

/** FPATAN: the angle of the point (x, y), from -pi to pi. */
export function arcTangent(y: Float80, x: Float80, control: number): Result {
  const forced = notNumbers(x, y);
  if (forced !== undefined) return forced;
  const flags = denormalFlag(x, y);
  const [kindX, kindY] = [kindOf(x), kindOf(y)];
  const angle = (eighths: bigint): Result => {
    const exact = { sign: y.sign, significand: pi(WORKING) * eighths, scale: -WORKING - 2, sticky: true };
    return finish(exact, control, flags);
  };
  if (kindY === Kind.INFINITY) {
    if (kindX !== Kind.INFINITY) return angle(2n);
    return angle(x.sign === 1 ? 3n : 1n);
  }
  if (kindX === Kind.INFINITY || kindY === Kind.ZERO) {
    return x.sign === 1 ? angle(4n) : raising(zero(y.sign), flags);
  }
  if (kindX === Kind.ZERO) return angle(2n);
  return finish({ ...angleOf(exactOf(y), exactOf(x)), sign: y.sign }, control, flags);
}

/** The magnitude of the angle; neither is 0. */
function angleOf(y: Exact, x: Exact): Exact {
  const order = compareMagnitudes(y, x);
  const [low, high] = order < 0 ? [y, x] : [x, y];
  const far = BigInt(high.scale + bitLength(high.significand) - low.scale - bitLength(low.significand));
  if (far > TINY) {
    if (low === x || x.sign === 1) {
      // Nearly a half or a whole of pi: a little more or less of it.
      const whole = low === x ? pi(WORKING) >> 1n : pi(WORKING);
      return fixed(low === x && x.sign === 1 ? whole + 1n : whole - 1n, WORKING);
    }
    // The quotient, of which the next term takes something.
    const quotient = ((y.significand << BigInt(2 * WORKING)) / x.significand) | 1n;
    return beside({ sign: 0, significand: quotient, scale: y.scale - x.scale - 2 * WORKING, sticky: true }, false);
  }
  const bits = WORKING + Number(far) + 2;
  const q = ratio(low, high, bits);
  let angle = arcTangentUpTo1(q, bits);
  if (low === x) angle = (pi(bits) >> 1n) + (x.sign === 1 ? angle : -angle);
  else if (x.sign === 1) angle = pi(bits) - angle;
  return fixed(angle, bits);
}

function compareMagnitudes(a: Exact, b: Exact): number {
  const scale = Math.max(Math.min(a.scale - b.scale, 200), -200);
  const left = scale > 0 ? a.significand << BigInt(scale) : a.significand;
  const right = scale < 0 ? b.significand << BigInt(-scale) : b.significand;
  return left < right ? -1 : left > right ? 1 : 0;
}

function ratio(a: Exact, b: Exact, bits: number): bigint {
  const shift = a.scale - b.scale + bits;
  return shift >= 0
    ? (a.significand << BigInt(shift)) / b.significand
    : a.significand / (b.significand << BigInt(-shift));
}

/** Halves the angle three times, then the series. */
function arcTangentUpTo1(q: bigint, bits: number): bigint {
  const shift = BigInt(bits);
  const unit = 1n << shift;
  let value = q;
  for (let halving = 0; halving < 3; halving++) {
    const root = integerRoot((unit << shift) + value * value);
    value = (value << shift) / (unit + root);
  }
  return atanSmall(value, bits) << 3n;
}
