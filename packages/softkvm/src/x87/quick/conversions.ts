/** Conversions in WebAssembly: those of convert.ts, and FRNDINT, for operands and results that are 0 or normal. */

import type { FunctionBody } from "../../vector-unit/functions.ts";
import type { Code } from "../../wasm/code.ts";
import type { I32, I64, Local } from "../../wasm/expr.ts";
import { c32, c64, i32, i64, select } from "../../wasm/ops.ts";
import { i32x4, i64x2 } from "../../wasm/simd.ts";
import { BIAS } from "../float80.ts";
import { roundsUp, statusOf } from "./rounding.ts";
import { isZero, NEVER, type Operand, pack, packZero, unpack } from "./value.ts";

/** To a float of so many bits: the fraction's width and the exponent's bias make the format. */
function toFloat(width: number, bias: number): FunctionBody {
  const cut = 63 - width;
  return (code, value, _, third) => {
    const control = code.let(i32x4.extract_lane(third, 0));
    const a = unpack(code, value);
    const sign = code.let(i64.shl(i64.extend_i32_u(a.sign), c64(width === 52 ? 63 : 31)));
    code.if(isZero(a), () => code.return(i64x2.splat(sign)));
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
    const result = i64x2.splat(i64.or(sign, magnitude));
    code.return(i32x4.replace_lane(result, 3, status));
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
export const toInteger: FunctionBody = (code, value, _, third) => {
  const control = code.let(i32x4.extract_lane(third, 0));
  const a = unpack(code, value);
  code.if(isBeyond(a), () => code.return(NEVER));
  const { magnitude, status } = integral(code, control, a);
  code.if(i64.lt_s(magnitude, c64(0)), () => code.return(NEVER));
  const integer = select(a.sign, i64.sub(c64(0), magnitude), magnitude);
  code.return(i32x4.replace_lane(i64x2.splat(integer), 3, status));
};

/** A magnitude as a value. */
function fromMagnitude(code: Code, sign: I32, magnitude: I64, status: I32): void {
  const zeros = code.let(i64.clz(magnitude));
  const exponent = i32.sub(c32(BIAS + 63), i32.wrap(zeros));
  code.if(i64.eqz(magnitude), () => code.return(pack(sign, c32(0), c64(0), status)));
  code.return(pack(sign, exponent, i64.shl(magnitude, zeros), status));
}

export const roundToIntegral: FunctionBody = (code, value, _, third) => {
  const control = code.let(i32x4.extract_lane(third, 0));
  const a = unpack(code, value);
  code.if(i32.or(isBeyond(a), isZero(a)), () => code.return(pack(a.sign, a.exponent, a.significand)));
  const { magnitude, status } = integral(code, control, a);
  fromMagnitude(code, a.sign, magnitude, status);
};

/** From a signed integer of 64 bits in the first eight bytes. */
export const fromInteger: FunctionBody = (code, value) => {
  const integer = code.let(i64x2.extract_lane(value, 0));
  const sign = code.let(i32.wrap(i64.shr_u(integer, c64(63))));
  const magnitude = code.let(select(sign, i64.sub(c64(0), integer), integer));
  fromMagnitude(code, sign, magnitude, c32(0));
};

/** From a float's bits in the first eight bytes. */
function fromFloat(width: number, bias: number): FunctionBody {
  return (code, value) => {
    const bits = code.let(i64x2.extract_lane(value, 0));
    const special = 2 * bias + 1;
    const exponent = code.let(i32.and(i32.wrap(i64.shr_u(bits, c64(width))), c32(special)));
    const sign = code.let(i32.and(i32.wrap(i64.shr_u(bits, c64(width === 52 ? 63 : 31))), c32(1)));
    const fraction = code.let(i64.shl(bits, c64(64 - width)));
    code.if(i32.ge_u(i32.sub(exponent, c32(1)), c32(special - 1)), () => {
      code.if(i32.or(exponent, i64.ne(fraction, c64(0))), () => code.return(NEVER));
      code.return(packZero(sign));
    });
    const significand = i64.or(i64.shr_u(fraction, c64(1)), c64(-(2n ** 63n)));
    code.return(pack(sign, i32.add(exponent, c32(BIAS - bias)), significand));
  };
}

export const fromDouble = fromFloat(52, 1023);
export const fromSingle = fromFloat(23, 127);
