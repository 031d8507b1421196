/** ADD, SUB, logic and their kin: Intel SDM vol. 2. */

import { c32, i32, i64 } from "../wasm/ops.ts";
import type { Context, IntegerSize, Meaning, Value } from "./context.ts";
import {
  carryFlag,
  flagsKeepingCarry,
  flagsOfAdd,
  flagsOfAddCarry,
  flagsOfLogic,
  flagsOfSub,
  flagsOfSubBorrow,
  setCarry,
} from "./flags.ts";
import { truncate, word } from "./words.ts";

/** Computes a result from operand 0 and 1, stores it into operand 0, then sets flags. */
function binary(
  compute: (c: Context, size: IntegerSize, a: Value, b: Value) => Value,
  flags: (c: Context, size: IntegerSize, a: Value, b: Value, result: Value) => void,
): Meaning {
  return (c) => {
    const size = sizeOf(c);
    const b = c.let(c.read(1));
    let a: Value | undefined;
    let result: Value | undefined;
    c.modify(0, (old) => {
      a = c.let(old);
      result = c.let(truncate(size, compute(c, size, a, b)));
      return result;
    });
    flags(c, size, a!, b, result!);
  };
}

/** The same without storing. */
function compare(
  compute: (c: Context, size: IntegerSize, a: Value, b: Value) => Value,
  flags: (c: Context, size: IntegerSize, a: Value, b: Value, result: Value) => void,
): Meaning {
  return (c) => {
    const size = sizeOf(c);
    const a = c.let(c.read(0));
    const b = c.let(c.read(1));
    flags(c, size, a, b, c.let(truncate(size, compute(c, size, a, b))));
  };
}

export function sizeOf(c: Context, operand = 0): IntegerSize {
  return c.operands[operand]!.size as IntegerSize;
}

const add = (_: Context, size: IntegerSize, a: Value, b: Value) => word(size).add(a, b);
const sub = (_: Context, size: IntegerSize, a: Value, b: Value) => word(size).sub(a, b);
const and = (_: Context, size: IntegerSize, a: Value, b: Value) => word(size).and(a, b);
const carry = (c: Context, size: IntegerSize): Value => (size === 8 ? i64.extend_i32_u(carryFlag(c)) : carryFlag(c));
const logic = (c: Context, size: IntegerSize, _a: Value, _b: Value, result: Value) => flagsOfLogic(c, size, result);

export const arithmetic: Record<string, Meaning> = {
  add: binary(add, flagsOfAdd),
  adc: binary((c, size, a, b) => word(size).add(word(size).add(a, b), carry(c, size)), flagsOfAddCarry),
  sub: binary(sub, flagsOfSub),
  sbb: binary((c, size, a, b) => word(size).sub(word(size).sub(a, b), carry(c, size)), flagsOfSubBorrow),
  and: binary(and, logic),
  or: binary((_, size, a, b) => word(size).or(a, b), logic),
  xor: binary((_, size, a, b) => word(size).xor(a, b), logic),
  cmp: compare(sub, flagsOfSub),
  test: compare(and, logic),

  inc: (c) => {
    const size = sizeOf(c);
    const w = word(size);
    let result: Value | undefined;
    let carries: Value | undefined;
    c.modify(0, (old) => {
      const a = c.let(old);
      result = c.let(truncate(size, w.add(a, w.const(1))));
      // a + 1 carries out of bit n when a has ones up to n: those that vanish in the sum.
      carries = w.and(a, w.xor(result, w.const(-1)));
      return result;
    });
    flagsKeepingCarry(c, size, carries!, result!);
  },

  dec: (c) => {
    const size = sizeOf(c);
    const w = word(size);
    let result: Value | undefined;
    let borrows: Value | undefined;
    c.modify(0, (old) => {
      const a = c.let(old);
      result = c.let(truncate(size, w.sub(a, w.const(1))));
      borrows = w.and(w.xor(a, w.const(-1)), result);
      return result;
    });
    flagsKeepingCarry(c, size, borrows!, result!);
  },

  neg: (c) => {
    const size = sizeOf(c);
    const zero = word(size).const(0);
    let a: Value | undefined;
    let result: Value | undefined;
    c.modify(0, (old) => {
      a = c.let(old);
      result = c.let(truncate(size, word(size).sub(zero, a)));
      return result;
    });
    flagsOfSub(c, size, zero, a!, result!);
  },

  not: (c) => {
    const size = sizeOf(c);
    c.modify(0, (old) => truncate(size, word(size).xor(old, word(size).const(-1))));
  },

  clc: (c) => setCarry(c, c32(0)),
  stc: (c) => setCarry(c, c32(1)),
  cmc: (c) => setCarry(c, i32.xor(carryFlag(c), c32(1))),

  xadd: (c) => {
    const size = sizeOf(c);
    const b = c.let(c.read(1));
    let a: Value | undefined;
    let result: Value | undefined;
    c.modify(0, (old) => {
      a = c.let(old);
      result = c.let(truncate(size, word(size).add(a, b)));
      return result;
    });
    c.write(1, a!);
    // With one register for both, the sum stays: the exchange comes first (SDM, XADD).
    if (c.operands[0]!.kind !== "mem") c.write(0, result!);
    flagsOfAdd(c, size, a!, b, result!);
  },
};
