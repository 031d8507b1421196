/** From exact results to those of a format (Intel SDM vol. 1, 4.8.4 and 4.9.1). */

import { BIAS, bitLength, type Float80, INTEGER_BIT, infinity, type Sign, zero } from "./float80.ts";
import { Exception, Rounding } from "./layout.ts";

/** A value that is not 0: `significand * 2 ** scale`, or with `sticky` up to one unit of the significand more. */
export interface Exact {
  readonly sign: Sign;
  readonly significand: bigint;
  readonly scale: number;
  readonly sticky: boolean;
}

/** What an operation makes of its operands. */
export interface Result {
  readonly value: Float80;
  /** Bits of `Exception`. */
  readonly flags: number;
  /** The magnitude was rounded up: C1. */
  readonly up: boolean;
}

/** Where values are rounded to: bits of significand, and binary logarithms of the smallest and largest normal ones. */
export interface Format {
  readonly precision: number;
  readonly lowest: number;
  readonly highest: number;
}

export const SINGLE: Format = { precision: 24, lowest: -126, highest: 127 };
export const DOUBLE: Format = { precision: 53, lowest: -1022, highest: 1023 };
export const EXTENDED: Format = { precision: 64, lowest: -16382, highest: 16383 };

/** What an unmasked overflow or underflow takes from or adds to the exponent (8.5.4, 8.5.5). */
const WRAP = 24576;

export const exactly = (value: Float80): Result => ({ value, flags: 0, up: false });
export const raising = (value: Float80, flags: number): Result => ({ value, flags, up: false });

/** Whether what is cut off makes the magnitude greater: `rest` compares to one half. */
export function roundsUp(mode: Rounding, sign: Sign, odd: boolean, rest: "zero" | "less" | "half" | "more"): boolean {
  if (rest === "zero") return false;
  switch (mode) {
    case Rounding.NEAREST:
      return rest === "more" || (rest === "half" && odd);
    case Rounding.DOWN:
      return sign === 1;
    case Rounding.UP:
      return sign === 0;
    case Rounding.ZERO:
      return false;
  }
}

/** Cuts `cut` bits off, and rounds. */
function cutOff(exact: Exact, cut: number, mode: Rounding): { significand: bigint; inexact: boolean; up: boolean } {
  if (cut <= 0) {
    const significand = exact.significand << BigInt(-cut);
    const up = roundsUp(mode, exact.sign, false, exact.sticky ? "less" : "zero");
    return { significand: up ? significand + 1n : significand, inexact: exact.sticky, up };
  }
  const kept = exact.significand >> BigInt(cut);
  const lost = exact.significand - (kept << BigInt(cut));
  if (lost === 0n && !exact.sticky) return { significand: kept, inexact: false, up: false };
  const half = 1n << BigInt(cut - 1);
  const rest = lost < half ? "less" : lost > half || exact.sticky ? "more" : "half";
  const up = roundsUp(mode, exact.sign, (kept & 1n) === 1n, rest);
  return { significand: up ? kept + 1n : kept, inexact: true, up };
}

/**
 * Rounds to a format. `masks` are those of the control word: the result of an unmasked overflow or underflow is the
 * exact one with its exponent wrapped, rounded.
 */
export function round(exact: Exact, mode: Rounding, format: Format, masks: number): Result {
  const { sign } = exact;
  const { precision, lowest, highest } = format;
  const length = bitLength(exact.significand);
  let logarithm = exact.scale + length - 1;
  const { inexact, up, ...cut } = cutOff(exact, length - precision, mode);
  let { significand } = cut;
  if (significand >> BigInt(precision) !== 0n) {
    significand >>= 1n;
    logarithm += 1;
  }
  const left = BigInt(64 - precision);
  let flags = inexact ? Exception.PE : 0;
  if (logarithm > highest) {
    flags |= Exception.OE;
    // FSCALE reaches beyond what wrapping brings back.
    if (masks & Exception.OE) return overflow(sign, mode, format);
    if (logarithm - WRAP > highest) return { value: infinity(sign), flags: flags | Exception.PE, up: true };
    logarithm -= WRAP;
  } else if (logarithm < lowest) {
    // Tiny after rounding as if the exponent had no limit.
    if (masks & Exception.UE) return denormalize(exact, mode, format);
    flags |= Exception.UE;
    if (logarithm + WRAP < lowest) return raising(zero(sign), flags | Exception.PE);
    logarithm += WRAP;
  }
  return { value: { sign, exponent: logarithm + BIAS, significand: significand << left }, flags, up };
}

/** A tiny result in the format's smallest unit: an underflow if that is inexact. */
function denormalize(exact: Exact, mode: Rounding, { precision, lowest }: Format): Result {
  const { significand, inexact, up } = cutOff(exact, lowest - precision + 1 - exact.scale, mode);
  const value = significand << BigInt(64 - precision);
  // The integer bit may come back by rounding.
  const exponent = lowest + BIAS - (value >= INTEGER_BIT ? 0 : 1);
  const flags = inexact ? Exception.UE | Exception.PE : 0;
  return { value: { sign: exact.sign, exponent, significand: value }, flags, up };
}

function overflow(sign: Sign, mode: Rounding, { precision, highest }: Format): Result {
  const up = roundsUp(mode, sign, true, "more");
  const largest = ((1n << BigInt(precision)) - 1n) << BigInt(64 - precision);
  const value = up ? infinity(sign) : { sign, exponent: highest + BIAS, significand: largest };
  return { value, flags: Exception.OE | Exception.PE, up };
}

/** A value of the extended format, from an exact one. */
export function toExtended(exact: Exact, mode: Rounding, precision: number, masks: number): Result {
  return round(exact, mode, precision === 64 ? EXTENDED : { ...EXTENDED, precision }, masks);
}

/** A finite value that is not 0. */
export function exactOf({ sign, exponent, significand }: Float80): Exact {
  return { sign, significand, scale: (exponent === 0 ? 1 : exponent) - BIAS - 63, sticky: false };
}

/** The nearest integer: its magnitude may be 0. */
export function roundToInteger(exact: Exact, mode: Rounding): { magnitude: bigint; inexact: boolean; up: boolean } {
  const { significand, inexact, up } = cutOff(exact, -exact.scale, mode);
  return { magnitude: significand, inexact, up };
}
