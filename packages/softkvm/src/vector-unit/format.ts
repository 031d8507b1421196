/** Floats of IEEE 754 taken apart: exactly, with integers of any size (Intel SDM vol. 1, 4.8). */

export interface Format {
  readonly bytes: 2 | 4 | 8;
  /** Bits of the significand with the one that is not stored. */
  readonly precision: number;
  /** Exponents of the least and the greatest normal numbers. */
  readonly least: number;
  readonly greatest: number;
}

export const HALF: Format = { bytes: 2, precision: 11, least: -14, greatest: 15 };
export const SINGLE: Format = { bytes: 4, precision: 24, least: -126, greatest: 127 };
export const DOUBLE: Format = { bytes: 8, precision: 53, least: -1022, greatest: 1023 };

export type Kind = "zero" | "denormal" | "normal" | "infinity" | "quiet" | "signaling";

/** The value is `significand * 2 ** exponent` unless its kind says otherwise. */
export interface Float {
  readonly kind: Kind;
  readonly negative: boolean;
  readonly significand: bigint;
  readonly exponent: number;
  /** As it was encoded. */
  readonly bits: bigint;
}

const fractionBits = (format: Format) => BigInt(format.precision - 1);
const exponentOnes = (format: Format) => BigInt(2 * format.greatest + 1);
const signBit = (format: Format) => 1n << BigInt(format.bytes * 8 - 1);
const quietBit = (format: Format) => 1n << BigInt(format.precision - 2);

export function unpack(format: Format, bits: bigint): Float {
  const shift = fractionBits(format);
  const fraction = bits & ((1n << shift) - 1n);
  const biased = (bits >> shift) & exponentOnes(format);
  const negative = (bits & signBit(format)) !== 0n;
  const lowest = format.least - format.precision + 1;
  if (biased === exponentOnes(format)) {
    const kind = fraction === 0n ? "infinity" : (fraction & quietBit(format)) !== 0n ? "quiet" : "signaling";
    return { kind, negative, significand: fraction, exponent: 0, bits };
  }
  if (biased === 0n) {
    return { kind: fraction === 0n ? "zero" : "denormal", negative, significand: fraction, exponent: lowest, bits };
  }
  const exponent = lowest + Number(biased) - 1;
  return { kind: "normal", negative, significand: fraction | (1n << shift), exponent, bits };
}

/** A finite number: a significand of at most `precision` bits, with fewer only at the lowest exponent. */
export function pack(format: Format, negative: boolean, significand: bigint, exponent: number): bigint {
  const shift = fractionBits(format);
  // The bit that is not stored adds 1 to the biased exponent.
  const biased = BigInt(exponent - (format.least - format.precision + 1));
  return (negative ? signBit(format) : 0n) + (biased << shift) + significand;
}

export const zero = (format: Format, negative: boolean): bigint => (negative ? signBit(format) : 0n);
export const infinity = (format: Format, negative: boolean): bigint =>
  zero(format, negative) | (exponentOnes(format) << fractionBits(format));
/** The greatest finite number. */
export const greatest = (format: Format, negative: boolean): bigint => infinity(format, negative) - 1n;
/** The NaN of invalid operations ("QNaN floating-point indefinite"). */
export const indefinite = (format: Format): bigint => infinity(format, true) | quietBit(format);
export const quieted = (format: Format, bits: bigint): bigint => bits | quietBit(format);

export const isNan = ({ kind }: Float): boolean => kind === "quiet" || kind === "signaling";

/** A NaN in another format: its sign and the upper bits of its fraction, quiet. */
export function convertNan(from: Format, to: Format, nan: Float): bigint {
  const shift = to.precision - from.precision;
  const fraction = shift >= 0 ? nan.significand << BigInt(shift) : nan.significand >> BigInt(-shift);
  return infinity(to, nan.negative) | quietBit(to) | fraction;
}

export function bitLength(value: bigint): number {
  const digits = value.toString(16);
  return digits.length * 4 - Math.clz32(Number.parseInt(digits[0]!, 16)) + 28;
}

/** -1, 0 or 1; neither is a NaN. */
export function compare(a: Float, b: Float): number {
  const sign = (x: Float) => (x.kind === "zero" ? 0 : x.negative ? -1 : 1);
  if (sign(a) !== sign(b)) return Math.sign(sign(a) - sign(b));
  if (sign(a) === 0 || a.bits === b.bits) return 0;
  return a.bits > b.bits === a.negative ? -1 : 1;
}
