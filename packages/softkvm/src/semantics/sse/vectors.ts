/** What the tables of vector instructions are built from. */

import { State, Vector } from "../../cpu/layout.ts";
import type { I32, V128 } from "../../wasm/expr.ts";
import { c32, i32 } from "../../wasm/ops.ts";
import { i8x16, splat } from "../../wasm/simd.ts";
import type { Alignment, Context, Meaning } from "../context.ts";

export type Unary = (a: V128) => V128;
export type Binary = (a: V128, b: V128) => V128;

export type Shift = (a: V128, count: I32) => V128;

/** Operand 0 becomes what `compute` makes of it and operand 1. */
export function binary(compute: (a: V128, b: V128, c: Context) => V128): Meaning {
  return (c) => {
    const b = c.let(c.readVector(1));
    c.writeVector(0, compute(c.let(c.readVector(0)), b, c));
  };
}

/** Operand 0 becomes what `compute` makes of operand 1. */
export function unary(compute: (a: V128, c: Context) => V128): Meaning {
  return (c) => c.writeVector(0, compute(c.let(c.readVector(1)), c));
}

export function move(alignment: Alignment = "aligned"): Meaning {
  return (c) => c.writeVector(0, c.readVector(1, alignment), alignment);
}

/** 64-bit vectors: those of MMX. */
export const isMmx = (c: Context): boolean => c.operands.some(({ kind }) => kind === "mm");

/**
 * What is common to instructions on mm registers (Intel SDM vol. 1, 9.6): a pending x87 exception comes first, and
 * afterwards all eight x87 registers count as used, with register 0 on top.
 */
function withX87State(meaning: Meaning): Meaning {
  return (c) => {
    if (!isMmx(c)) {
      meaning(c);
      return;
    }
    raisePendingX87(c);
    // A store that faults has put register 0 on top already, on Intel's processors.
    if (c.operands[0]!.kind === "mem") c.setState32(State.ftop, c32(0));
    meaning(c);
    enterMmx(c);
  };
}

/** FSW.ES. */
const ERROR_SUMMARY = 0x80;

export function raisePendingX87(c: Context): void {
  c.raiseIf(i32.and(c.state32(State.fsw), c32(ERROR_SUMMARY)), Vector.MF);
}

export function enterMmx(c: Context): void {
  c.setState32(State.ftop, c32(0));
  c.setState32(State.ftw, c32(0xff));
}

/** A table of instructions that exist for mm registers, too. */
export function alsoMmx(table: Record<string, Meaning>): Record<string, Meaning> {
  return Object.fromEntries(Object.entries(table).map(([mnemonic, meaning]) => [mnemonic, withX87State(meaning)]));
}

/** The low halves of two vectors, one behind the other. */
export const lowHalves: Binary = (a, b) => bytes(a, b, [0, 1, 2, 3, 4, 5, 6, 7, 16, 17, 18, 19, 20, 21, 22, 23]);

/** Bytes by their numbers, those of `b` from 16 on. */
export const bytes = (a: V128, b: V128, numbers: readonly number[]): V128 => i8x16.shuffle(a, b, numbers);

/** Lanes of `size` bytes by their numbers, those of `b` after those of `a`. */
export function lanes(size: 1 | 2 | 4 | 8, a: V128, b: V128, numbers: readonly number[]): V128 {
  return i8x16.shuffle(
    a,
    b,
    numbers.flatMap((number) => Array.from({ length: size }, (_, byte) => number * size + byte)),
  );
}

export const zeros = (): V128 => splat(8, 0);
export const ones = (): V128 => splat(8, -1n);
