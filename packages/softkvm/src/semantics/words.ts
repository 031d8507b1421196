/** Arithmetic on values of 1, 2, 4 and 8 bytes, alike for i32 and i64. */

import { ConstI32, ConstI64, type Expr, type I32, type I64 } from "../wasm/expr.ts";
import { c32, c64, i32, i64 } from "../wasm/ops.ts";
import type { IntegerSize, Value } from "./context.ts";

type Binary = (a: Value, b: Value) => Value;
type Compare = (a: Value, b: Value) => I32;

/** The operations that i32 and i64 share, over {@link Value}. */
interface Word {
  readonly add: Binary;
  readonly sub: Binary;
  readonly mul: Binary;
  readonly and: Binary;
  readonly or: Binary;
  readonly xor: Binary;
  readonly shl: Binary;
  readonly shr_u: Binary;
  readonly shr_s: Binary;
  readonly rotl: Binary;
  readonly rotr: Binary;
  readonly eq: Compare;
  readonly ne: Compare;
  readonly lt_u: Compare;
  readonly lt_s: Compare;
  readonly eqz: (a: Value) => I32;
  readonly clz: (a: Value) => Value;
  readonly ctz: (a: Value) => Value;
  readonly popcnt: (a: Value) => Value;
  readonly const: (value: number) => Value;
}

const narrow = i32 as unknown as Word;
const wide = i64 as unknown as Word;

/** The operations for values of this size. Results of 1- and 2-byte operations may carry bits above; see {@link truncate}. */
export function word(size: IntegerSize): Word {
  return size === 8 ? wide : narrow;
}

export function isConst(value: Expr): value is ConstI32 | ConstI64 {
  return value instanceof ConstI32 || value instanceof ConstI64;
}

/** Clears the bits above the size. */
export function truncate(size: IntegerSize, value: Value): Value {
  if (size === 1) return i32.and(value as I32, c32(0xff));
  if (size === 2) return i32.and(value as I32, c32(0xffff));
  return value;
}

/** To 64 bits, sign-extended from the size. */
export function signExtend(size: IntegerSize, value: Value): I64 {
  if (size === 8) return value as I64;
  const v = value as I32;
  if (v instanceof ConstI32) {
    const bits = BigInt(size * 8);
    return c64(BigInt.asIntN(Number(bits), BigInt(v.value)));
  }
  if (size === 4) return i64.extend_i32_s(v);
  return i64.extend_i32_s(size === 1 ? i32.extend8_s(v) : i32.extend16_s(v));
}

/** To 64 bits, with zeros. The value has no bits above its size. */
export function zeroExtend(size: IntegerSize, value: Value): I64 {
  return size === 8 ? (value as I64) : i64.extend_i32_u(value as I32);
}

/** The low bits of a 64-bit value as a {@link Value} of a size. */
export function fromI64(size: IntegerSize, value: I64): Value {
  return size === 8 ? value : truncate(size, i32.wrap(value));
}

/** The low 32 bits. */
export function low32(value: Value): I32 {
  return value.type === "i64" ? i32.wrap(value as I64) : (value as I32);
}

/** Bit `size * 8 - 1` as 0 or 1. */
export function signBit(size: IntegerSize, value: Value): I32 {
  if (size === 8) return i32.wrap(i64.shr_u(value as I64, c64(63)));
  return i32.and(i32.shr_u(value as I32, c32(size * 8 - 1)), c32(1));
}
