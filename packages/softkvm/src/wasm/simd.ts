/**
 * WebAssembly's 128-bit vectors (core specification, 5.4.9) under the names that they have there. Nothing folds: vectors
 * are hardly ever constant.
 */

import {
  ConstI32,
  ConstV128,
  type F32,
  type F64,
  type I32,
  type I64,
  LaneOperation,
  Load,
  Operation,
  Shuffle,
  type V128,
} from "./expr.ts";
import { ZERO } from "./ops.ts";

const SIMD = 0xfd0000;

type Unary = (a: V128) => V128;
type Binary = (a: V128, b: V128) => V128;
type Shift = (a: V128, count: I32) => V128;
type Test = (a: V128) => I32;

const unary =
  (number: number): Unary =>
  (a) =>
    new Operation("v128", SIMD + number, [a]);
const binary =
  (number: number): Binary =>
  (a, b) =>
    new Operation("v128", SIMD + number, [a, b]);
const ternary =
  (number: number) =>
  (a: V128, b: V128, c: V128): V128 =>
    new Operation("v128", SIMD + number, [a, b, c]);
const shift =
  (number: number): Shift =>
  (a, count) =>
    new Operation("v128", SIMD + number, [a, count]);
const test =
  (number: number): Test =>
  (a) =>
    new Operation("i32", SIMD + number, [a]);

function load(number: number, align: number) {
  return (address: I32, offset = 0): V128 =>
    address instanceof ConstI32
      ? new Load("v128", SIMD + number, align, ZERO, (address.value >>> 0) + offset)
      : new Load("v128", SIMD + number, align, address, offset);
}

/** Comparisons lie in this order: eq, ne, lt, gt, le, ge, those of integers signed and unsigned. */
const integerCompare = (first: number) => ({
  eq: binary(first),
  ne: binary(first + 1),
  lt_s: binary(first + 2),
  lt_u: binary(first + 3),
  gt_s: binary(first + 4),
  gt_u: binary(first + 5),
});
const floatCompare = (first: number) => ({
  eq: binary(first),
  ne: binary(first + 1),
  lt: binary(first + 2),
  gt: binary(first + 3),
  le: binary(first + 4),
  ge: binary(first + 5),
});

export const v128 = {
  const: (bytes: Uint8Array): V128 => new ConstV128(bytes),
  load: load(0x00, 4),
  /** Loads into lane 0, zeros elsewhere. */
  load32_zero: load(0x5c, 2),
  load64_zero: load(0x5d, 3),
  not: unary(0x4d),
  and: binary(0x4e),
  /** The first AND NOT the second. */
  andnot: binary(0x4f),
  or: binary(0x50),
  xor: binary(0x51),
  /** Bits of `a` where `mask` is 1, of `b` elsewhere. */
  bitselect: (a: V128, b: V128, mask: V128): V128 => new Operation("v128", SIMD + 0x52, [a, b, mask]),
  any_true: test(0x53),
};

export const i8x16 = {
  ...integerCompare(0x23),
  shuffle: (a: V128, b: V128, lanes: readonly number[]): V128 => new Shuffle(a, b, lanes),
  /** Byte `indexes[i]` of `a`; 0 where that is 16 or more. */
  swizzle: binary(0x0e),
  splat: (a: I32): V128 => new Operation("v128", SIMD + 0x0f, [a]),
  extract_lane_u: (a: V128, lane: number): I32 => new LaneOperation("i32", SIMD + 0x16, [a], lane),
  replace_lane: (a: V128, lane: number, value: I32): V128 => new LaneOperation("v128", SIMD + 0x17, [a, value], lane),
  abs: unary(0x60),
  neg: unary(0x61),
  all_true: test(0x63),
  bitmask: test(0x64),
  narrow_i16x8_s: binary(0x65),
  narrow_i16x8_u: binary(0x66),
  add: binary(0x6e),
  add_sat_s: binary(0x6f),
  add_sat_u: binary(0x70),
  sub: binary(0x71),
  sub_sat_s: binary(0x72),
  sub_sat_u: binary(0x73),
  min_s: binary(0x76),
  min_u: binary(0x77),
  max_s: binary(0x78),
  max_u: binary(0x79),
  avgr_u: binary(0x7b),
};

export const i16x8 = {
  ...integerCompare(0x2d),
  splat: (a: I32): V128 => new Operation("v128", SIMD + 0x10, [a]),
  extract_lane_u: (a: V128, lane: number): I32 => new LaneOperation("i32", SIMD + 0x19, [a], lane),
  replace_lane: (a: V128, lane: number, value: I32): V128 => new LaneOperation("v128", SIMD + 0x1a, [a, value], lane),
  extadd_pairwise_i8x16_u: unary(0x7d),
  abs: unary(0x80),
  neg: unary(0x81),
  /** `(a * b + 0x4000) >> 15`, saturated. */
  q15mulr_sat_s: binary(0x82),
  all_true: test(0x83),
  narrow_i32x4_s: binary(0x85),
  narrow_i32x4_u: binary(0x86),
  extend_low_i8x16_s: unary(0x87),
  extend_high_i8x16_s: unary(0x88),
  extend_low_i8x16_u: unary(0x89),
  extend_high_i8x16_u: unary(0x8a),
  shl: shift(0x8b),
  shr_s: shift(0x8c),
  shr_u: shift(0x8d),
  add: binary(0x8e),
  add_sat_s: binary(0x8f),
  add_sat_u: binary(0x90),
  sub: binary(0x91),
  sub_sat_s: binary(0x92),
  sub_sat_u: binary(0x93),
  mul: binary(0x95),
  min_s: binary(0x96),
  min_u: binary(0x97),
  max_s: binary(0x98),
  max_u: binary(0x99),
  avgr_u: binary(0x9b),
};

export const i32x4 = {
  ...integerCompare(0x37),
  splat: (a: I32): V128 => new Operation("v128", SIMD + 0x11, [a]),
  extract_lane: (a: V128, lane: number): I32 => new LaneOperation("i32", SIMD + 0x1b, [a], lane),
  replace_lane: (a: V128, lane: number, value: I32): V128 => new LaneOperation("v128", SIMD + 0x1c, [a, value], lane),
  extadd_pairwise_i16x8_s: unary(0x7e),
  extadd_pairwise_i16x8_u: unary(0x7f),
  abs: unary(0xa0),
  neg: unary(0xa1),
  all_true: test(0xa3),
  bitmask: test(0xa4),
  extend_low_i16x8_s: unary(0xa7),
  extend_high_i16x8_s: unary(0xa8),
  extend_low_i16x8_u: unary(0xa9),
  shl: shift(0xab),
  shr_s: shift(0xac),
  shr_u: shift(0xad),
  add: binary(0xae),
  sub: binary(0xb1),
  mul: binary(0xb5),
  min_s: binary(0xb6),
  min_u: binary(0xb7),
  max_s: binary(0xb8),
  max_u: binary(0xb9),
  dot_i16x8_s: binary(0xba),
  extmul_low_i16x8_s: binary(0xbc),
  extmul_high_i16x8_s: binary(0xbd),
  extmul_low_i16x8_u: binary(0xbe),
  extmul_high_i16x8_u: binary(0xbf),
  trunc_sat_f32x4_s: unary(0xf8),
  /** To lanes 0 and 1; zeros above. */
  trunc_sat_f64x2_s_zero: unary(0xfc),
};

export const i64x2 = {
  splat: (a: I64): V128 => new Operation("v128", SIMD + 0x12, [a]),
  extract_lane: (a: V128, lane: number): I64 => new LaneOperation("i64", SIMD + 0x1d, [a], lane),
  replace_lane: (a: V128, lane: number, value: I64): V128 => new LaneOperation("v128", SIMD + 0x1e, [a, value], lane),
  all_true: test(0xc3),
  bitmask: test(0xc4),
  extend_low_i32x4_s: unary(0xc7),
  extend_low_i32x4_u: unary(0xc9),
  shl: shift(0xcb),
  shr_s: shift(0xcc),
  shr_u: shift(0xcd),
  add: binary(0xce),
  sub: binary(0xd1),
  mul: binary(0xd5),
  eq: binary(0xd6),
  gt_s: binary(0xd9),
  extmul_low_i32x4_s: binary(0xdc),
  extmul_low_i32x4_u: binary(0xde),
};

export const f32x4 = {
  ...floatCompare(0x41),
  splat: (a: F32): V128 => new Operation("v128", SIMD + 0x13, [a]),
  extract_lane: (a: V128, lane: number): F32 => new LaneOperation("f32", SIMD + 0x1f, [a], lane),
  replace_lane: (a: V128, lane: number, value: F32): V128 => new LaneOperation("v128", SIMD + 0x20, [a, value], lane),
  /** From two f64 lanes; zeros above. */
  demote_f64x2_zero: unary(0x5e),
  ceil: unary(0x67),
  floor: unary(0x68),
  trunc: unary(0x69),
  nearest: unary(0x6a),
  abs: unary(0xe0),
  sqrt: unary(0xe3),
  add: binary(0xe4),
  sub: binary(0xe5),
  mul: binary(0xe6),
  div: binary(0xe7),
  /** `b < a ? b : a`, of `b < a` false also with NaN and zeros. */
  pmin: binary(0xea),
  /** `a < b ? b : a`. */
  pmax: binary(0xeb),
  convert_i32x4_s: unary(0xfa),
  /** `a * b + c`, rounded once or twice, as the host does it: see fused.ts. */
  relaxed_madd: ternary(0x105),
};

export const f64x2 = {
  ...floatCompare(0x47),
  splat: (a: F64): V128 => new Operation("v128", SIMD + 0x14, [a]),
  extract_lane: (a: V128, lane: number): F64 => new LaneOperation("f64", SIMD + 0x21, [a], lane),
  replace_lane: (a: V128, lane: number, value: F64): V128 => new LaneOperation("v128", SIMD + 0x22, [a, value], lane),
  promote_low_f32x4: unary(0x5f),
  ceil: unary(0x74),
  floor: unary(0x75),
  trunc: unary(0x7a),
  nearest: unary(0x94),
  abs: unary(0xec),
  sqrt: unary(0xef),
  add: binary(0xf0),
  sub: binary(0xf1),
  mul: binary(0xf2),
  div: binary(0xf3),
  pmin: binary(0xf6),
  pmax: binary(0xf7),
  convert_low_i32x4_s: unary(0xfe),
  relaxed_madd: ternary(0x107),
};

/** A constant of sixteen bytes, eight words, four doublewords or two quadwords that all have one value. */
export function splat(laneBytes: 1 | 2 | 4 | 8, value: bigint | number): V128 {
  return constant(laneBytes, Array(16 / laneBytes).fill(BigInt(value)));
}

/** A constant by its lanes, the lowest first. */
export function constant(laneBytes: 1 | 2 | 4 | 8, lanes: readonly (bigint | number)[]): V128 {
  const view = new DataView(new ArrayBuffer(16));
  for (const [index, lane] of lanes.entries()) {
    const value = BigInt(lane);
    for (let byte = 0; byte < laneBytes; byte++) {
      view.setUint8(index * laneBytes + byte, Number((value >> BigInt(byte * 8)) & 0xffn));
    }
  }
  return new ConstV128(new Uint8Array(view.buffer));
}
