/** Conversions in WebAssembly: those of convert.ts, and FRNDINT, for operands and results that are 0 or normal. */

import type { Code } from "../../wasm/code.ts";
import type { I32, I64, Local } from "../../wasm/expr.ts";
import { c32, c64, i32, i64, select } from "../../wasm/ops.ts";
import { BIAS } from "../float80.ts";
import { roundsUp, statusOf } from "./rounding.ts";
import { give, giveBits, isZero, NEVER, type Operand, unpack, type X87Body } from "./value.ts";

/** To a float of so many bits: the fraction's width and the exponent's bias make the format. */
function toFloat(width: number, bias: number): X87Body {
  const cut = 63 - width;
  return (code, { a: value, to, control }) => {
    const a = unpack(code, value);
    const sign = code.let(i64.shl(i64.extend_i32_u(a.sign), c64(width === 52 ? 63 : 31)));
    code.if(isZero(a), () => giveBits(code, to, sign));
    const exponent = code.let(i32.sub(a.exponent, c32(BIAS - bias)));
    code.if(i32.ge_u(i32.sub(exponent, c32(1)), c32(2 * bias)), () => code.return(NEVER));
    const rest = code.let(i64.shl(a.significand, c64(64 - cut)));
    const kept = code.let(i64.shr_u(a.significand, c64(cut)));
    const up = roundsUp(code, control, a.sign, i32.and(i32.wrap(kept), c32(1)), rest);
    // The integer bit adds one to the exponent, and rounding may carry into it.
    const upper = i64.shl(i64.extend_i32_u(i32.sub(exponent, c32(1))), c64(width));
    const magnitude = code.let(i64.add(i64.add(upper, kept), i64.extend_i32_u(up)));
    const rounded = i32.wrap(i64.shr_u(magnitude, c64(width)));
    code.if(i32.gt_u(rounded, c32(2 * bias)), () => code.return(NEVER));
    const status = statusOf(code, control, i64.ne(rest, c64(0)), up);
    giveBits(code, to, i64.or(sign, magnitude), status);
  };
}

export const toDouble = toFloat(52, 1023);
export const toSingle = toFloat(23, 127);

/** Rounds a number below 2 ** 63 to an integer. */
function integral(code: Code, control: I32, a: Operand): { magnitude: Local<"i64">; status: Local<"i32"> } {
  const magnitude = code.let(c64(0));
  const rest = code.let(c64(0));
  const shift = code.let(i64.extend_i32_u(i32.sub(c32(BIAS + 63), a.exponent)));
  code.if(
    i64.lt_u(shift, c64(64)),
    () => {
      code.set(magnitude, i64.shr_u(a.significand, shift));
      code.set(rest, i64.shl(a.significand, i64.sub(c64(64), shift)));
    },
    // From one half on, the significand is behind the point; what is less is only something.
    () => code.set(rest, select(i64.eq(shift, c64(64)), a.significand, i64.extend_i32_u(i32.ne(a.exponent, c32(0))))),
  );
  const up = roundsUp(code, control, a.sign, i32.and(i32.wrap(magnitude), c32(1)), rest);
  const status = statusOf(code, control, i64.ne(rest, c64(0)), up);
  code.set(magnitude, i64.add(magnitude, i64.extend_i32_u(up)));
  return { magnitude, status };
}

const isBeyond = (a: Operand): I32 => i32.ge_u(a.exponent, c32(BIAS + 63));

/** To a signed integer of 64 bits, in the first eight bytes. */
export const toInteger: X87Body = (code, { a: value, to, control }) => {
  const a = unpack(code, value);
  code.if(isBeyond(a), () => code.return(NEVER));
  const { magnitude, status } = integral(code, control, a);
  code.if(i64.lt_s(magnitude, c64(0)), () => code.return(NEVER));
  const integer = select(a.sign, i64.sub(c64(0), magnitude), magnitude);
  giveBits(code, to, integer, status);
};

export const roundToIntegral: X87Body = (code, { a: value, to, control }) => {
  const a = unpack(code, value);
  code.if(i32.or(isBeyond(a), isZero(a)), () => give(code, to, a.sign, a.exponent, a.significand));
  const { magnitude, status } = integral(code, control, a);
  code.if(i64.eqz(magnitude), () => give(code, to, a.sign, c32(0), c64(0), status));
  const { exponent, significand } = normalized(code, magnitude);
  give(code, to, a.sign, exponent, significand, status);
};

// Those to a register are short, and written where they are used.

/** An integer that is not 0 as a biased exponent and a significand. */
function normalized(code: Code, magnitude: I64): { exponent: I32; significand: I64 } {
  const zeros = code.let(i64.clz(magnitude));
  return { exponent: i32.sub(c32(BIAS + 63), i32.wrap(zeros)), significand: i64.shl(magnitude, zeros) };
}

/** The parts of a register. */
export interface Parts {
  readonly significand: I64;
  /** Exponent and sign. */
  readonly high: I32;
}

/** From a signed integer of 64 bits. */
export function fromInteger(code: Code, value: I64): Parts {
  const integer = code.let(value);
  const sign = code.let(i64.shr_s(integer, c64(63)));
  const magnitude = code.let(i64.sub(i64.xor(integer, sign), sign));
  const { exponent, significand } = normalized(code, magnitude);
  const high = i32.or(exponent, i32.and(i32.wrap(sign), c32(0x8000)));
  return { significand: code.let(significand), high: code.let(select(i64.eqz(magnitude), c32(0), high)) };
}

/** From a float's bits; `special` is whether it is denormal, infinite or a NaN, which this is not for. */
export function fromFloat(size: 4 | 8, code: Code, bits: I64): Parts & { special: I32 } {
  const [width, bias] = size === 8 ? [52, 1023] : [23, 127];
  const most = 2 * bias + 1;
  const exponent = code.let(i32.and(i32.wrap(i64.shr_u(bits, c64(width))), c32(most)));
  const sign = i32.and(i32.wrap(i64.shr_u(bits, c64(size * 8 - 16))), c32(0x8000));
  // The sign is lost on the way.
  const magnitude = code.let(i64.shl(bits, c64(64 - width)));
  const isNormal = code.let(i32.lt_u(i32.sub(exponent, c32(1)), c32(most - 1)));
  const isSome = i64.ne(i64.or(magnitude, i64.extend_i32_u(exponent)), c64(0));
  const significand = i64.or(i64.shr_u(magnitude, c64(1)), c64(-(2n ** 63n)));
  return {
    significand: code.let(select(isNormal, significand, c64(0))),
    high: code.let(i32.or(sign, select(isNormal, i32.add(exponent, c32(BIAS - bias)), c32(0)))),
    special: i32.and(i32.eqz(isNormal), isSome),
  };
}
