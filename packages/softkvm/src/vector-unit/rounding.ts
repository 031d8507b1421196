/** Rounding, and the exceptions that come with it: Intel SDM vol. 1, 4.8.4, 4.9 and 10.2.3. */

import { bitLength, type Format, greatest, infinity, pack, zero } from "./format.ts";

/** Exceptions by their flags in MXCSR; the mask of each is 7 bits above. */
export const Exception = { INVALID: 1, DENORMAL: 2, ZERO_DIVIDE: 4, OVERFLOW: 8, UNDERFLOW: 16, INEXACT: 32 } as const;

const FLAGS = 0x3f;
const MASK_SHIFT = 7;
const RC_SHIFT = 13;
const RC_FTZ = 0xe000;

/** MXCSR.RC, and the immediate of ROUNDPS. */
export const Rounding = { NEAREST: 0, DOWN: 1, UP: 2, TRUNCATE: 3 } as const;

/** What MXCSR says, and the exceptions of an instruction so far. */
export class Environment {
  readonly rounding: number;
  readonly flushToZero: boolean;
  readonly denormalsAreZeros: boolean;
  readonly #mxcsr: number;
  /** Those that are known before anything is computed (SDM vol. 1, 11.5.2.1 to 3): invalid, denormal, division by zero. */
  before = 0;
  /** Overflow, underflow, inexact. */
  after = 0;

  constructor(mxcsr: number) {
    this.#mxcsr = mxcsr;
    this.rounding = (mxcsr >> RC_SHIFT) & 3;
    this.denormalsAreZeros = (mxcsr & 0x40) !== 0;
    // Flushing needs the exception masked (10.2.3.3).
    this.flushToZero = (mxcsr & 0x8000) !== 0 && this.masks(Exception.UNDERFLOW);
  }

  /** Like this one, but rounding so, and never flushing to zero. */
  withRounding(rounding: number): Environment {
    return new Environment((this.#mxcsr & ~RC_FTZ) | (rounding << RC_SHIFT));
  }

  masks(exceptions: number): boolean {
    return (exceptions & ~(this.#mxcsr >> MASK_SHIFT) & FLAGS) === 0;
  }

  /** Whether the instruction has a result. What is known before keeps what would come after from happening. */
  get completes(): boolean {
    return this.masks(this.before | this.after);
  }

  /** MXCSR after the instruction. */
  get mxcsr(): number {
    return this.#mxcsr | this.before | (this.masks(this.before) ? this.after : 0);
  }
}

/** Drops bits below: the integer, and whether it is exact. */
export function dropBits(significand: bigint, bits: number, negative: boolean, rounding: number): [bigint, boolean] {
  if (bits <= 0) return [significand << BigInt(-bits), true];
  const count = BigInt(bits);
  const kept = significand >> count;
  const rest = significand & ((1n << count) - 1n);
  if (rest === 0n) return [kept, true];
  const half = 1n << (count - 1n);
  let up: boolean;
  if (rounding === Rounding.NEAREST) up = rest > half || (rest === half && (kept & 1n) === 1n);
  else up = rounding === (negative ? Rounding.DOWN : Rounding.UP);
  return [up ? kept + 1n : kept, false];
}

/** The float nearest to `significand * 2 ** exponent`, which is not 0, in the sense of the environment. */
export function round(
  format: Format,
  negative: boolean,
  significand: bigint,
  exponent: number,
  environment: Environment,
): bigint {
  const { precision, least } = format;
  const { rounding } = environment;
  const drop = bitLength(significand) - precision;
  let [rounded, exact] = dropBits(significand, drop, negative, rounding);
  let at = exponent + drop;
  if (bitLength(rounded) > precision) {
    rounded >>= 1n;
    at += 1;
  }
  const leading = at + precision - 1;
  if (leading > format.greatest) {
    environment.after |= Exception.OVERFLOW;
    if (!exact || environment.masks(Exception.OVERFLOW)) environment.after |= Exception.INEXACT;
    const away = rounding === Rounding.NEAREST || rounding === (negative ? Rounding.DOWN : Rounding.UP);
    return away ? infinity(format, negative) : greatest(format, negative);
  }
  // Tininess is that of the result as if exponents had no end.
  if (leading < least) {
    if (environment.flushToZero) {
      environment.after |= Exception.UNDERFLOW | Exception.INEXACT;
      return zero(format, negative);
    }
    const quantum = least - precision + 1;
    const [denormal, denormalExact] = dropBits(significand, quantum - exponent, negative, rounding);
    if (environment.masks(Exception.UNDERFLOW)) {
      exact = denormalExact;
      if (!exact) environment.after |= Exception.UNDERFLOW;
    } else {
      // What a handler would get is the result as if exponents had no end: its exactness counts.
      environment.after |= Exception.UNDERFLOW;
    }
    rounded = denormal;
    at = quantum;
  }
  if (!exact) environment.after |= Exception.INEXACT;
  return pack(format, negative, rounded, at);
}
