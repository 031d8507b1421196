/** The double extended-precision format (Intel SDM vol. 1, 4.2.2, 4.8 and 8.2.2). */

export type Sign = 0 | 1;

export interface Float80 {
  readonly sign: Sign;
  /** Biased by {@link BIAS}: 0 to 0x7fff. */
  readonly exponent: number;
  /** 64 bits, the integer bit on top. */
  readonly significand: bigint;
}

export const BIAS = 16383;
export const EXPONENT_MAX = 0x7fff;
export const INTEGER_BIT = 1n << 63n;
export const QUIET_BIT = 1n << 62n;

export const Kind = {
  ZERO: 0,
  /** Also pseudo-denormals, whose integer bit is set. */
  DENORMAL: 1,
  NORMAL: 2,
  INFINITY: 3,
  QUIET_NAN: 4,
  SIGNALING_NAN: 5,
  /** The integer bit is 0 where it should be 1: unnormals, pseudo-infinities and pseudo-NaNs. */
  UNSUPPORTED: 6,
} as const;
export type Kind = (typeof Kind)[keyof typeof Kind];

export function kindOf({ exponent, significand }: Float80): Kind {
  if (exponent === 0) return significand === 0n ? Kind.ZERO : Kind.DENORMAL;
  if (significand < INTEGER_BIT) return Kind.UNSUPPORTED;
  if (exponent !== EXPONENT_MAX) return Kind.NORMAL;
  if (significand === INTEGER_BIT) return Kind.INFINITY;
  return significand & QUIET_BIT ? Kind.QUIET_NAN : Kind.SIGNALING_NAN;
}

export const isNan = (kind: Kind): boolean => kind === Kind.QUIET_NAN || kind === Kind.SIGNALING_NAN;

export const zero = (sign: Sign): Float80 => ({ sign, exponent: 0, significand: 0n });
export const infinity = (sign: Sign): Float80 => ({ sign, exponent: EXPONENT_MAX, significand: INTEGER_BIT });
export const one = (sign: Sign): Float80 => ({ sign, exponent: BIAS, significand: INTEGER_BIT });
/** The masked response to an invalid operation: "real indefinite". */
export const INDEFINITE: Float80 = { sign: 1, exponent: EXPONENT_MAX, significand: INTEGER_BIT | QUIET_BIT };

export function quiet(nan: Float80): Float80 {
  return { ...nan, significand: nan.significand | QUIET_BIT };
}

export function negate(value: Float80): Float80 {
  return { ...value, sign: value.sign === 0 ? 1 : 0 };
}

/** Of a finite value that is not 0: it is `significand * 2 ** result`. */
export function scaleOf({ exponent }: Float80): number {
  return (exponent === 0 ? 1 : exponent) - BIAS - 63;
}

/** Of a finite value that is not 0: its binary logarithm, rounded down. */
export function logarithmOf(value: Float80): number {
  return scaleOf(value) + bitLength(value.significand) - 1;
}

export function bitLength(value: bigint): number {
  let bits = 0;
  let rest = value;
  // Rarely more than once.
  while (rest >= 1n << 64n) {
    const shift = rest >= 1n << 256n ? 192 : 64;
    rest >>= BigInt(shift);
    bits += shift;
  }
  const high = Number(rest >> 32n);
  return high !== 0 ? bits + 64 - Math.clz32(high) : bits + 32 - Math.clz32(Number(rest));
}
