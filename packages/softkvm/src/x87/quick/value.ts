/**
 * Values in WebAssembly: a register's 16 bytes as they lie in the state, of which the upper six mean nothing. In what a
 * function gives, the last four are what to add to the status word, or -1 where microcode has to do the instruction.
 */

import type { Code } from "../../wasm/code.ts";
import type { I32, I64, V128 } from "../../wasm/expr.ts";
import { c32, c64, i32, i64 } from "../../wasm/ops.ts";
import { i32x4, i64x2, splat } from "../../wasm/simd.ts";

/** Finite, and 0 or normal. */
export interface Operand {
  /** The integer bit on top, or 0. */
  readonly significand: I64;
  /** Biased; 0 of 0. */
  readonly exponent: I32;
  /** 0 or 1. */
  readonly sign: I32;
}

export const NEVER = splat(4, -1);

/** Takes an operand apart. Leaves the function, for microcode, when it is neither 0 nor normal. */
export function unpack(code: Code, value: V128): Operand {
  const significand = code.let(i64x2.extract_lane(value, 0));
  const high = code.let(i32x4.extract_lane(value, 2));
  const exponent = code.let(i32.and(high, c32(0x7fff)));
  const sign = code.let(i32.and(i32.shr_u(high, c32(15)), c32(1)));
  // What is not normal has an exponent without numbers, or its integer bit is 0.
  const special = i32.or(i32.ge_u(i32.sub(exponent, c32(1)), c32(0x7ffe)), i64.ge_s(significand, c64(0)));
  code.if(special, () =>
    code.if(i64.ne(i64.or(significand, i64.extend_i32_u(exponent)), c64(0)), () => code.return(NEVER)),
  );
  return { significand, exponent, sign };
}

export function isZero({ exponent }: Operand): I32 {
  return i32.eqz(exponent);
}

/** A value from its parts. */
export function pack(sign: I32, exponent: I32, significand: I64, status: I32 = c32(0)): V128 {
  const high = i64.extend_i32_u(i32.or(i32.shl(sign, c32(15)), exponent));
  const upper = i64.or(i64.shl(i64.extend_i32_u(status), c64(32)), high);
  return i64x2.replace_lane(i64x2.splat(significand), 1, upper);
}

export const packZero = (sign: I32): V128 => pack(sign, c32(0), c64(0));
