/**
 * Values in WebAssembly: where a register lies in linear memory, or room for one, 16 bytes of which ten count. The functions
 * of this folder take such addresses, and give what to add to the status word: -1 where microcode has to do the instruction.
 */

import type { Code } from "../../wasm/code.ts";
import type { I32, I64 } from "../../wasm/expr.ts";
import { c32, c64, i32, i64 } from "../../wasm/ops.ts";

/** What a function of this folder is given: two operands, room for the result, and the control word. */
export interface Parameters {
  readonly a: I32;
  readonly b: I32;
  readonly to: I32;
  readonly control: I32;
}

/** Writes the body of such a function, up to its `return`. */
export type X87Body = (code: Code, parameters: Parameters) => void;

/** Finite, and 0 or normal. */
export interface Operand {
  /** The integer bit on top, or 0. */
  readonly significand: I64;
  /** Biased; 0 of 0. */
  readonly exponent: I32;
  /** 0 or 1. */
  readonly sign: I32;
}

export const NEVER = c32(-1);

/** Sign and exponent lie behind the significand. */
export const HIGH = 8;

/** Takes an operand apart. Leaves the function, for microcode, when it is neither 0 nor normal. */
export function unpack(code: Code, address: I32): Operand {
  const significand = code.let(i64.load(address));
  const high = code.let(i32.load16_u(address, HIGH));
  const exponent = code.let(i32.and(high, c32(0x7fff)));
  const sign = code.let(i32.shr_u(high, c32(15)));
  // What is not normal has an exponent without numbers, or its integer bit is 0.
  const special = i32.or(i32.ge_u(i32.sub(exponent, c32(1)), c32(0x7ffe)), i64.ge_s(significand, c64(0)));
  code.if(
    special,
    () => code.if(i64.ne(i64.or(significand, i64.extend_i32_u(exponent)), c64(0)), () => code.return(NEVER)),
    undefined,
    false,
  );
  return { significand, exponent, sign };
}

export function isZero({ exponent }: Operand): I32 {
  return i32.eqz(exponent);
}

/** Ends a function with a value. */
export function give(code: Code, to: I32, sign: I32, exponent: I32, significand: I64, status: I32 = c32(0)): void {
  code.store("i64", to, 0, significand);
  code.store("i32", to, HIGH, i32.or(i32.shl(sign, c32(15)), exponent));
  code.return(status);
}

export const giveZero = (code: Code, to: I32, sign: I32): void => give(code, to, sign, c32(0), c64(0));

/** Ends a function with what is no register: eight bytes. */
export function giveBits(code: Code, to: I32, bits: I64, status: I32 = c32(0)): void {
  code.store("i64", to, 0, bits);
  code.return(status);
}
