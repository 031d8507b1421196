/**
 * The instructions of WebAssembly as functions that build expressions (core specification, 5.4). Operations on constants
 * fold, and those that change nothing vanish, so that code made with known operands is as short as if written for them.
 */

import {
  Call,
  CallIndirect,
  Choice,
  ConstF64,
  ConstI32,
  ConstI64,
  type Expr,
  type F32,
  type F64,
  type I32,
  type I64,
  Load,
  MemoryOperation,
  Operation,
  type ValueType,
} from "./expr.ts";

type Fold32 = (a: number, b: number) => number;
type Fold64 = (a: bigint, b: bigint) => bigint;

/** What leaves the other operand as it is, on the right. */
type Neutral = 0 | -1 | undefined;

function binary32(opcode: number, fold: Fold32 | undefined, neutral?: Neutral) {
  return (a: I32, b: I32): I32 => {
    if (b instanceof ConstI32) {
      if (a instanceof ConstI32 && fold !== undefined) return new ConstI32(fold(a.value, b.value));
      if (neutral !== undefined && b.value === neutral) return a;
    }
    return new Operation("i32", opcode, [a, b]);
  };
}

function binary64(opcode: number, fold: Fold64 | undefined, neutral?: Neutral) {
  return (a: I64, b: I64): I64 => {
    if (b instanceof ConstI64) {
      if (a instanceof ConstI64 && fold !== undefined) return new ConstI64(fold(a.value, b.value));
      if (neutral !== undefined && b.value === BigInt(neutral)) return a;
    }
    return new Operation("i64", opcode, [a, b]);
  };
}

function compare32(opcode: number, fold: (a: number, b: number) => boolean) {
  return (a: I32, b: I32): I32 =>
    a instanceof ConstI32 && b instanceof ConstI32
      ? new ConstI32(fold(a.value, b.value) ? 1 : 0)
      : new Operation("i32", opcode, [a, b]);
}

function compare64(opcode: number, fold: (a: bigint, b: bigint) => boolean) {
  return (a: I64, b: I64): I32 =>
    a instanceof ConstI64 && b instanceof ConstI64
      ? new ConstI32(fold(a.value, b.value) ? 1 : 0)
      : new Operation("i32", opcode, [a, b]);
}

function unary<T extends ValueType, R extends ValueType>(type: R, opcode: number) {
  return (a: Expr<T>): Expr<R> => new Operation(type, opcode, [a]);
}

function binary<T extends ValueType, R extends ValueType>(type: R, opcode: number) {
  return (a: Expr<T>, b: Expr<T>): Expr<R> => new Operation(type, opcode, [a, b]);
}

function load<T extends ValueType>(type: T, opcode: number, align: number) {
  return (address: I32, offset = 0): Expr<T> => {
    // A constant address is an offset; addresses are unsigned.
    if (address instanceof ConstI32) {
      return new Load(type, opcode, align, ZERO, (address.value >>> 0) + offset);
    }
    return new Load(type, opcode, align, address, offset);
  };
}

const u = (value: number) => value >>> 0;
const u64 = (value: bigint) => BigInt.asUintN(64, value);

export const ZERO: I32 = new ConstI32(0);
export const c32 = (value: number): ConstI32 => new ConstI32(value);
export const c64 = (value: bigint | number): ConstI64 => new ConstI64(BigInt(value));

export const i32 = {
  const: c32,
  eqz: (a: I32): I32 => (a instanceof ConstI32 ? c32(a.value === 0 ? 1 : 0) : new Operation("i32", 0x45, [a])),
  eq: compare32(0x46, (a, b) => a === b),
  ne: compare32(0x47, (a, b) => a !== b),
  lt_s: compare32(0x48, (a, b) => a < b),
  lt_u: compare32(0x49, (a, b) => u(a) < u(b)),
  gt_s: compare32(0x4a, (a, b) => a > b),
  gt_u: compare32(0x4b, (a, b) => u(a) > u(b)),
  le_s: compare32(0x4c, (a, b) => a <= b),
  le_u: compare32(0x4d, (a, b) => u(a) <= u(b)),
  ge_s: compare32(0x4e, (a, b) => a >= b),
  ge_u: compare32(0x4f, (a, b) => u(a) >= u(b)),
  clz: unary<"i32", "i32">("i32", 0x67),
  ctz: unary<"i32", "i32">("i32", 0x68),
  popcnt: unary<"i32", "i32">("i32", 0x69),
  add: binary32(0x6a, (a, b) => a + b, 0),
  sub: binary32(0x6b, (a, b) => a - b, 0),
  mul: binary32(0x6c, Math.imul),
  div_s: binary32(0x6d, undefined),
  div_u: binary32(0x6e, undefined),
  rem_s: binary32(0x6f, undefined),
  rem_u: binary32(0x70, undefined),
  and: binary32(0x71, (a, b) => a & b, -1),
  or: binary32(0x72, (a, b) => a | b, 0),
  xor: binary32(0x73, (a, b) => a ^ b, 0),
  shl: binary32(0x74, (a, b) => a << b, 0),
  shr_s: binary32(0x75, (a, b) => a >> b, 0),
  shr_u: binary32(0x76, (a, b) => a >>> b, 0),
  rotl: binary32(0x77, undefined, 0),
  rotr: binary32(0x78, undefined, 0),
  wrap: (a: I64): I32 =>
    a instanceof ConstI64 ? c32(Number(BigInt.asIntN(32, a.value))) : new Operation("i32", 0xa7, [a]),
  extend8_s: unary<"i32", "i32">("i32", 0xc0),
  extend16_s: unary<"i32", "i32">("i32", 0xc1),
  reinterpret_f32: unary<"f32", "i32">("i32", 0xbc),
  /** Of what is in range, else they trap; several times as fast as the saturating ones. */
  trunc_f32_s: unary<"f32", "i32">("i32", 0xa8),
  trunc_f64_s: unary<"f64", "i32">("i32", 0xaa),
  trunc_sat_f32_s: unary<"f32", "i32">("i32", 0xfc00),
  trunc_sat_f64_s: unary<"f64", "i32">("i32", 0xfc02),
  load: load("i32", 0x28, 2),
  load8_s: load("i32", 0x2c, 0),
  load8_u: load("i32", 0x2d, 0),
  load16_s: load("i32", 0x2e, 1),
  load16_u: load("i32", 0x2f, 1),
  atomicLoad: load("i32", 0xfe10, 2),
};

export const i64 = {
  const: c64,
  eqz: (a: I64): I32 => (a instanceof ConstI64 ? c32(a.value === 0n ? 1 : 0) : new Operation("i32", 0x50, [a])),
  eq: compare64(0x51, (a, b) => a === b),
  ne: compare64(0x52, (a, b) => a !== b),
  lt_s: compare64(0x53, (a, b) => a < b),
  lt_u: compare64(0x54, (a, b) => u64(a) < u64(b)),
  gt_s: compare64(0x55, (a, b) => a > b),
  gt_u: compare64(0x56, (a, b) => u64(a) > u64(b)),
  le_s: compare64(0x57, (a, b) => a <= b),
  le_u: compare64(0x58, (a, b) => u64(a) <= u64(b)),
  ge_s: compare64(0x59, (a, b) => a >= b),
  ge_u: compare64(0x5a, (a, b) => u64(a) >= u64(b)),
  clz: unary<"i64", "i64">("i64", 0x79),
  ctz: unary<"i64", "i64">("i64", 0x7a),
  popcnt: unary<"i64", "i64">("i64", 0x7b),
  add: binary64(0x7c, (a, b) => a + b, 0),
  sub: binary64(0x7d, (a, b) => a - b, 0),
  mul: binary64(0x7e, (a, b) => a * b),
  div_s: binary64(0x7f, undefined),
  div_u: binary64(0x80, undefined),
  rem_s: binary64(0x81, undefined),
  rem_u: binary64(0x82, undefined),
  and: binary64(0x83, (a, b) => a & b, -1),
  or: binary64(0x84, (a, b) => a | b, 0),
  xor: binary64(0x85, (a, b) => a ^ b, 0),
  shl: binary64(0x86, (a, b) => a << (b & 63n), 0),
  shr_s: binary64(0x87, (a, b) => a >> (b & 63n), 0),
  shr_u: binary64(0x88, (a, b) => u64(a) >> (b & 63n), 0),
  rotl: binary64(0x89, undefined, 0),
  rotr: binary64(0x8a, undefined, 0),
  extend_i32_s: (a: I32): I64 => (a instanceof ConstI32 ? c64(a.value) : new Operation("i64", 0xac, [a])),
  extend_i32_u: (a: I32): I64 => (a instanceof ConstI32 ? c64(u(a.value)) : new Operation("i64", 0xad, [a])),
  extend8_s: unary<"i64", "i64">("i64", 0xc2),
  extend16_s: unary<"i64", "i64">("i64", 0xc3),
  extend32_s: unary<"i64", "i64">("i64", 0xc4),
  reinterpret_f64: unary<"f64", "i64">("i64", 0xbd),
  trunc_sat_f32_s: unary<"f32", "i64">("i64", 0xfc04),
  trunc_sat_f64_s: unary<"f64", "i64">("i64", 0xfc06),
  /** As those of i32. */
  trunc_f32_s: unary<"f32", "i64">("i64", 0xae),
  trunc_f64_s: unary<"f64", "i64">("i64", 0xb0),
  load: load("i64", 0x29, 3),
  load8_s: load("i64", 0x30, 0),
  load8_u: load("i64", 0x31, 0),
  load16_s: load("i64", 0x32, 1),
  load16_u: load("i64", 0x33, 1),
  load32_s: load("i64", 0x34, 2),
  load32_u: load("i64", 0x35, 2),
};

export const f32 = {
  const: (value: number): F32 => f32.demote(f64.const(value)),
  load: load("f32", 0x2a, 2),
  eq: binary<"f32", "i32">("i32", 0x5b),
  ne: binary<"f32", "i32">("i32", 0x5c),
  lt: binary<"f32", "i32">("i32", 0x5d),
  gt: binary<"f32", "i32">("i32", 0x5e),
  trunc: unary<"f32", "f32">("f32", 0x8f),
  nearest: unary<"f32", "f32">("f32", 0x90),
  abs: unary<"f32", "f32">("f32", 0x8b),
  neg: unary<"f32", "f32">("f32", 0x8c),
  sqrt: unary<"f32", "f32">("f32", 0x91),
  add: binary<"f32", "f32">("f32", 0x92),
  sub: binary<"f32", "f32">("f32", 0x93),
  mul: binary<"f32", "f32">("f32", 0x94),
  div: binary<"f32", "f32">("f32", 0x95),
  convert_i32_s: unary<"i32", "f32">("f32", 0xb2),
  convert_i64_s: unary<"i64", "f32">("f32", 0xb4),
  demote: unary<"f64", "f32">("f32", 0xb6),
  reinterpret: unary<"i32", "f32">("f32", 0xbe),
};

export const f64 = {
  const: (value: number): F64 => new ConstF64(value),
  load: load("f64", 0x2b, 3),
  eq: binary<"f64", "i32">("i32", 0x61),
  ne: binary<"f64", "i32">("i32", 0x62),
  lt: binary<"f64", "i32">("i32", 0x63),
  gt: binary<"f64", "i32">("i32", 0x64),
  trunc: unary<"f64", "f64">("f64", 0x9d),
  abs: unary<"f64", "f64">("f64", 0x99),
  neg: unary<"f64", "f64">("f64", 0x9a),
  nearest: unary<"f64", "f64">("f64", 0x9e),
  sqrt: unary<"f64", "f64">("f64", 0x9f),
  add: binary<"f64", "f64">("f64", 0xa0),
  sub: binary<"f64", "f64">("f64", 0xa1),
  mul: binary<"f64", "f64">("f64", 0xa2),
  div: binary<"f64", "f64">("f64", 0xa3),
  convert_i32_s: unary<"i32", "f64">("f64", 0xb7),
  convert_i64_s: unary<"i64", "f64">("f64", 0xb9),
  promote: unary<"f32", "f64">("f64", 0xbb),
  reinterpret: unary<"i64", "f64">("f64", 0xbf),
};

/** Atomic compare and exchange of 1, 2, 4 or 8 bytes at an aligned address; the old value. */
export function compareExchange(size: 1 | 2 | 4 | 8, address: I32, expected: I32 | I64, replacement: I32 | I64) {
  const operands = [expected, replacement];
  switch (size) {
    case 1:
      return new MemoryOperation("i32", 0xfe4a, 0, address, operands);
    case 2:
      return new MemoryOperation("i32", 0xfe4b, 1, address, operands);
    case 4:
      return new MemoryOperation("i32", 0xfe48, 2, address, operands);
    case 8:
      return new MemoryOperation("i64", 0xfe49, 3, address, operands);
  }
}

/** Both sides are computed; the condition picks one. */
export function select<T extends ValueType>(condition: I32, a: Expr<T>, b: Expr<T>): Expr<T> {
  if (condition instanceof ConstI32) return condition.value !== 0 ? a : b;
  return new Operation(a.type, 0x1b, [a, b, condition]);
}

/** Only the chosen side is computed. */
export function choose<T extends ValueType>(condition: I32, a: Expr<T>, b: Expr<T>): Expr<T> {
  if (condition instanceof ConstI32) return condition.value !== 0 ? a : b;
  return new Choice(condition, a, b);
}

export function call<T extends ValueType>(type: T, index: number, ...operands: Expr[]): Expr<T> {
  return new Call(type, index, operands);
}

/** Calls the function in a slot of table 0. */
export function callIndirect<T extends ValueType>(
  type: T,
  functionType: number,
  slot: I32,
  ...operands: Expr[]
): Expr<T> {
  return new CallIndirect(type, functionType, slot, operands);
}
