/** Between 80-bit values and the other formats in memory (Intel SDM vol. 1, 4.2 and 8.1.9). */

import {
  BIAS,
  bitLength,
  EXPONENT_MAX,
  type Float80,
  INTEGER_BIT,
  isNan,
  Kind,
  kindOf,
  QUIET_BIT,
  type Sign,
  zero,
} from "./float80.ts";
import { Exception, type Rounding } from "./layout.ts";
import { DOUBLE, exactOf, round, roundToInteger, SINGLE } from "./round.ts";

const shapes = {
  4: { format: SINGLE, fraction: 23, bias: 127, special: 0xff, indefinite: 0xffc00000n },
  8: { format: DOUBLE, fraction: 52, bias: 1023, special: 0x7ff, indefinite: 0xfff8000000000000n },
} as const;
export type FloatSize = keyof typeof shapes;

/** A float of 32 or 64 bits. A signaling NaN stays one; `denormal` tells what the result, which is normal, does not. */
export function fromFloat(bits: bigint, size: FloatSize): { value: Float80; denormal: boolean } {
  const { fraction: width, bias, special } = shapes[size];
  const fraction = BigInt.asUintN(width, bits);
  const exponent = Number(bits >> BigInt(width)) & special;
  const sign = Number(bits >> BigInt(size * 8 - 1)) as Sign;
  const shifted = fraction << BigInt(63 - width);
  if (exponent === special) {
    return { value: { sign, exponent: EXPONENT_MAX, significand: INTEGER_BIT | shifted }, denormal: false };
  }
  if (exponent !== 0) {
    return { value: { sign, exponent: exponent - bias + BIAS, significand: INTEGER_BIT | shifted }, denormal: false };
  }
  if (fraction === 0n) return { value: zero(sign), denormal: false };
  const leading = 64 - bitLength(shifted);
  const value = { sign, exponent: 1 - bias + BIAS - leading, significand: shifted << BigInt(leading) };
  return { value, denormal: true };
}

/** Bits to store, with flags; C1 is `up`. */
export interface Stored {
  readonly bits: bigint;
  readonly flags: number;
  readonly up: boolean;
}

const stored = (bits: bigint, flags = 0, up = false): Stored => ({ bits, flags, up });

export function toFloat(value: Float80, size: FloatSize, mode: Rounding, masks: number): Stored {
  const { format, fraction: width, bias, special, indefinite } = shapes[size];
  const kind = kindOf(value);
  const encode = (exponent: number, significand: bigint) =>
    (BigInt(value.sign) << BigInt(size * 8 - 1)) |
    (BigInt(exponent) << BigInt(width)) |
    BigInt.asUintN(width, significand >> BigInt(63 - width));
  if (kind === Kind.UNSUPPORTED) return stored(indefinite, Exception.IE);
  if (kind === Kind.ZERO) return stored(encode(0, 0n));
  if (kind === Kind.INFINITY) return stored(encode(special, 0n));
  if (isNan(kind)) {
    const flags = kind === Kind.SIGNALING_NAN ? Exception.IE : 0;
    return stored(encode(special, value.significand | QUIET_BIT), flags);
  }
  const { value: rounded, flags, up } = round(exactOf(value), mode, format, masks);
  const isInfinite = rounded.exponent === EXPONENT_MAX;
  const exponent = isInfinite ? special : rounded.significand < INTEGER_BIT ? 0 : rounded.exponent - BIAS + bias;
  return stored(encode(exponent & special, rounded.significand), flags, up);
}

export function fromInteger(value: bigint): Float80 {
  if (value === 0n) return zero(0);
  const magnitude = value < 0n ? -value : value;
  const length = bitLength(magnitude);
  return {
    sign: value < 0n ? 1 : 0,
    exponent: BIAS + length - 1,
    significand: magnitude << BigInt(64 - length),
  };
}

/** The "integer indefinite" where the value has none of so many bytes. */
export function toInteger(value: Float80, size: number, mode: Rounding): Stored {
  const bits = size * 8;
  const indefinite = stored(1n << BigInt(bits - 1), Exception.IE);
  const kind = kindOf(value);
  if (kind === Kind.ZERO) return stored(0n);
  if (kind !== Kind.NORMAL && kind !== Kind.DENORMAL) return indefinite;
  if (value.exponent > BIAS + 64) return indefinite;
  const { magnitude, inexact, up } = roundToInteger(exactOf(value), mode);
  const integer = value.sign === 1 ? -magnitude : magnitude;
  if (BigInt.asIntN(bits, integer) !== integer) return indefinite;
  return stored(BigInt.asUintN(bits, integer), inexact ? Exception.PE : 0, up);
}

const PACKED_INDEFINITE = 0xffffc000000000000000n;
const PACKED_LIMIT = 10n ** 18n;

/** 18 decimal digits and a sign, in 80 bits. Nibbles above 9 count as what they are. */
export function fromPacked(bits: bigint): Float80 {
  let magnitude = 0n;
  for (let digit = 17n; digit >= 0n; digit--) magnitude = magnitude * 10n + ((bits >> (digit * 4n)) & 15n);
  const sign = Number(bits >> 79n) as Sign;
  return magnitude === 0n ? zero(sign) : { ...fromInteger(magnitude), sign };
}

export function toPacked(value: Float80, mode: Rounding): Stored {
  const kind = kindOf(value);
  const sign = BigInt(value.sign) << 79n;
  if (kind === Kind.ZERO) return stored(sign);
  if ((kind !== Kind.NORMAL && kind !== Kind.DENORMAL) || value.exponent > BIAS + 64) {
    return stored(PACKED_INDEFINITE, Exception.IE);
  }
  const { magnitude, inexact, up } = roundToInteger(exactOf(value), mode);
  if (magnitude >= PACKED_LIMIT) return stored(PACKED_INDEFINITE, Exception.IE);
  // Digits are those of the decimal number, read as if it were hexadecimal.
  return stored(sign | BigInt(`0x${magnitude.toString()}`), inexact ? Exception.PE : 0, up);
}
