/** BMI1 and BMI2: Intel SDM vol. 2. Flags that it leaves undefined Intel's processors clear. */

import { Aux } from "../cpu/layout.ts";
import type { I32, I64 } from "../wasm/expr.ts";
import { c32, c64, i32, i64, select } from "../wasm/ops.ts";
import { sizeOf } from "./arithmetic.ts";
import { type Context, Gpr, type IntegerSize, type Meaning, type Value } from "./context.ts";
import { withCarryAndOverflow } from "./flags.ts";
import { multiplyHigh } from "./multiply.ts";
import { fromI64, low32, signExtend, word, zeroExtend } from "./words.ts";

const width = (size: IntegerSize): number => size * 8;

/** ZF and SF by the result, CF as given (0 or 1), and zeros: PF, too, by a delta that makes any parity odd. */
function setFlags(c: Context, size: IntegerSize, result: Value, carry: I32 = c32(0)): void {
  const odd = i32.shl(i32.and(i32.xor(low32(result), c32(1)), c32(0xff)), c32(Aux.PARITY_SHIFT));
  c.setFlags(signExtend(size, result), withCarryAndOverflow(c.let(i32.shl(carry, c32(31))), c32(0), odd));
}

const andNot: Meaning = (c) => {
  const size = sizeOf(c);
  const w = word(size);
  const b = c.read(2);
  const result = c.let(w.and(w.xor(c.read(1), w.const(-1)), b));
  c.write(0, result);
  setFlags(c, size, result);
};

/** BLSR and its kin: something with the lowest bit that is set. CF says whether there is none, or with BLSI one. */
function lowestBit(compute: (size: IntegerSize, a: Value) => Value, carryIf: "none" | "any"): Meaning {
  return (c) => {
    const size = sizeOf(c);
    const w = word(size);
    const a = c.let(c.read(1));
    const result = c.let(compute(size, a));
    const none = c.let(w.eqz(a));
    c.write(0, result);
    setFlags(c, size, result, carryIf === "none" ? none : i32.eqz(none));
  };
}

const below = (size: IntegerSize, a: Value) => word(size).sub(a, word(size).const(1));
const negative = (size: IntegerSize, a: Value) => word(size).sub(word(size).const(0), a);

/** The low `count` bits of a 64-bit value; all of it from 64 on. */
const lowBits = (value: I64, count: I32): I64 => {
  const ones = i64.sub(i64.shl(c64(1), i64.extend_i32_u(count)), c64(1));
  return i64.and(value, select(i32.gt_u(count, c32(63)), c64(-1), ones));
};

/** BEXTR: from bit `second[7:0]` on, `second[15:8]` bits. */
const extract: Meaning = (c) => {
  const size = sizeOf(c);
  const control = c.let(low32(c.read(2)));
  const start = c.let(i32.and(control, c32(0xff)));
  const length = c.let(i32.and(i32.shr_u(control, c32(8)), c32(0xff)));
  const shifted = i64.shr_u(zeroExtend(size, c.read(1)), i64.extend_i32_u(start));
  const field = lowBits(select(i32.gt_u(start, c32(63)), c64(0), shifted), length);
  const result = c.let(zeroExtend(size, fromI64(size, field)));
  c.write(0, fromI64(size, result));
  // SF is undefined, too, and 0: flags are those of half the number, which is 0 only when the number is.
  setFlags(c, 8, c.let(i64.or(i64.shr_u(result, c64(1)), i64.and(result, c64(1)))));
};

/** BZHI: zeros from a bit on; CF says that there is no such bit. */
const zeroHigh: Meaning = (c) => {
  const size = sizeOf(c);
  const first = c.let(i32.and(low32(c.read(2)), c32(0xff)));
  const result = c.let(fromI64(size, lowBits(zeroExtend(size, c.read(1)), first)));
  c.write(0, result);
  setFlags(c, size, result, c.let(i32.gt_u(first, c32(width(size) - 1))));
};

/**
 * PEXT and PDEP, one round for each bit of the mask. `step` is given the mask's lowest bit and its number among the
 * mask's bits, and gives what belongs into the result.
 */
function byMask(step: (source: I64, bit: I64, number: I64) => I64): Meaning {
  return (c) => {
    const { code } = c;
    const size = sizeOf(c);
    const left = code.let(zeroExtend(size, c.read(2)));
    const source = c.let(zeroExtend(size, c.read(1)));
    const result = code.let(c64(0));
    const number = code.let(c64(0));
    const bit = code.local("i64");
    code.if(i32.eqz(i64.eqz(left)), () =>
      code.loop((again) => {
        code.set(bit, i64.and(left, i64.sub(c64(0), left)));
        code.set(result, i64.or(result, step(source, bit, number)));
        code.set(number, i64.add(number, c64(1)));
        code.set(left, i64.xor(left, bit));
        code.brIf(again, i32.eqz(i64.eqz(left)));
      }),
    );
    c.write(0, fromI64(size, result));
  };
}

const gather = byMask((source, bit, number) => i64.shl(i64.extend_i32_u(i64.ne(i64.and(source, bit), c64(0))), number));
const scatter = byMask((source, bit, number) =>
  select(i64.eqz(i64.and(i64.shr_u(source, number), c64(1))), c64(0), bit),
);

/** MULX: the upper half to operand 0, the lower to operand 1; the upper wins where they are one. */
const multiplyWithoutFlags: Meaning = (c) => {
  const size = sizeOf(c);
  const a = c.let(zeroExtend(size, c.gpr(Gpr.RDX, size)));
  const b = c.let(zeroExtend(size, c.read(2)));
  const product = c.let(i64.mul(a, b));
  const high = c.let(size === 8 ? multiplyHigh(c, a, b, false) : i64.shr_u(product, c64(32)));
  c.write(1, fromI64(size, product));
  c.write(0, fromI64(size, high));
};

/** SHLX and its kin, and RORX: shifts that leave flags alone. WebAssembly takes counts modulo the width, as they do. */
function shiftWithoutFlags(shift: (size: IntegerSize) => (a: Value, count: Value) => Value): Meaning {
  return (c) => {
    const size = sizeOf(c);
    const own = c.operands[2]!.size as IntegerSize;
    const count = c.let(own === size ? c.read(2) : fromI64(size, zeroExtend(own, c.read(2))));
    c.write(0, shift(size)(c.read(1), count));
  };
}

export const bmi: Record<string, Meaning> = {
  andn: andNot,
  blsr: lowestBit((size, a) => word(size).and(a, below(size, a)), "none"),
  blsmsk: lowestBit((size, a) => word(size).xor(a, below(size, a)), "none"),
  blsi: lowestBit((size, a) => word(size).and(a, negative(size, a)), "any"),
  ...{ bextr: extract, bzhi: zeroHigh, pext: gather, pdep: scatter },
  mulx: multiplyWithoutFlags,
  shlx: shiftWithoutFlags((size) => word(size).shl),
  shrx: shiftWithoutFlags((size) => word(size).shr_u),
  sarx: shiftWithoutFlags((size) => word(size).shr_s),
  rorx: shiftWithoutFlags((size) => word(size).rotr),
};
