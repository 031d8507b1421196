/**
 * Arithmetic of finite numbers in WebAssembly: `add`, `multiply`, `divide`, `squareRoot` and `compare` of arithmetic.ts for
 * operands and results that are 0 or normal.
 */

import type { Code } from "../../wasm/code.ts";
import type { I32, I64, Local } from "../../wasm/expr.ts";
import { c32, c64, f64, i32, i64, select } from "../../wasm/ops.ts";
import { BIAS } from "../float80.ts";
import { Rounding, Status } from "../layout.ts";
import { finish } from "./rounding.ts";
import { giveZero, isZero, NEVER, unpack, type X87Body } from "./value.ts";

const bit = (condition: I32): I64 => i64.extend_i32_u(condition);
const TOP = c64(-(2n ** 63n));

const sum =
  (negates: boolean): X87Body =>
  (code, { a: first, b: second, to, control }) => {
    const a = unpack(code, first);
    let b = unpack(code, second);
    if (negates) b = { ...b, sign: code.let(i32.xor(b.sign, c32(1))) };
    const isLess = code.let(i32.lt_u(a.exponent, b.exponent));
    const large = code.let(select(isLess, b.significand, a.significand));
    const small = code.let(select(isLess, a.significand, b.significand));
    const exponent = code.let(select(isLess, b.exponent, a.exponent));
    const sign = code.let(select(isLess, b.sign, a.sign));
    const distance = code.let(i32.sub(exponent, select(isLess, a.exponent, b.exponent)));

    // The smaller one in the unit of the greater one, and 64 bits behind.
    const high = code.local("i64");
    const low = code.local("i64");
    const by = code.let(i64.extend_i32_u(distance));
    code.if(
      i32.lt_u(distance, c32(64)),
      () => {
        code.set(high, i64.shr_u(small, by));
        code.set(low, select(distance, i64.shl(small, i64.sub(c64(64), by)), c64(0)));
      },
      () => {
        code.set(high, c64(0));
        code.if(
          i32.lt_u(distance, c32(128)),
          () => {
            const kept = i64.shr_u(small, by);
            const lost = i32.and(i32.ne(distance, c32(64)), i64.ne(i64.shl(small, i64.sub(c64(128), by)), c64(0)));
            code.set(low, i64.or(kept, bit(lost)));
          },
          () => code.set(low, bit(i64.ne(small, c64(0)))),
        );
      },
    );

    code.if(
      i32.eq(a.sign, b.sign),
      () => {
        code.set(high, i64.add(high, large));
        code.if(i64.lt_u(high, large), () => {
          code.set(low, i64.or(i64.or(i64.shr_u(low, c64(1)), i64.and(low, c64(1))), i64.shl(high, c64(63))));
          code.set(high, i64.or(i64.shr_u(high, c64(1)), TOP));
          code.set(exponent, i32.add(exponent, c32(1)));
        });
        // Both are 0.
        code.if(i64.eqz(high), () => giveZero(code, to, sign));
      },
      () => {
        const borrow = bit(i64.ne(low, c64(0)));
        code.set(high, i64.sub(i64.sub(large, high), borrow));
        code.set(low, i64.sub(c64(0), low));
        code.if(i64.eqz(i64.or(high, low)), () => {
          const mode = i32.and(i32.shr_u(control, c32(10)), c32(3));
          giveZero(code, to, i32.eq(mode, c32(Rounding.DOWN)));
        });
        // Of equal exponents either may be the greater one; then nothing is behind.
        code.if(i32.and(i32.eqz(distance), i64.lt_u(large, small)), () => {
          code.set(high, i64.sub(c64(0), high));
          code.set(sign, i32.xor(sign, c32(1)));
        });
        code.if(i64.eqz(high), () => {
          code.set(high, low);
          code.set(low, c64(0));
          code.set(exponent, i32.sub(exponent, c32(64)));
        });
        const zeros = code.let(i64.clz(high));
        code.if(i32.wrap(zeros), () => {
          code.set(high, i64.or(i64.shl(high, zeros), i64.shr_u(low, i64.sub(c64(64), zeros))));
          code.set(low, i64.shl(low, zeros));
          code.set(exponent, i32.sub(exponent, i32.wrap(zeros)));
        });
      },
    );
    finish(code, control, to, sign, exponent, high, low);
  };

export const add = sum(false);
export const subtract = sum(true);

/** The upper half of a product of 64 by 64 bits. */
function multiplyHigh(code: Code, a: I64, b: I64): I64 {
  const lower = (value: I64) => i64.and(value, c64(0xffffffffn));
  const upper = (value: I64) => i64.shr_u(value, c64(32));
  const [aLow, aHigh, bLow, bHigh] = [code.let(lower(a)), code.let(upper(a)), code.let(lower(b)), code.let(upper(b))];
  const first = code.let(i64.add(i64.mul(aHigh, bLow), upper(i64.mul(aLow, bLow))));
  const second = code.let(i64.add(i64.mul(aLow, bHigh), lower(first)));
  return i64.add(i64.add(i64.mul(aHigh, bHigh), upper(first)), upper(second));
}

export const multiply: X87Body = (code, { a: first, b: second, to, control }) => {
  const a = unpack(code, first);
  const b = unpack(code, second);
  const sign = code.let(i32.xor(a.sign, b.sign));
  code.if(i32.or(isZero(a), isZero(b)), () => giveZero(code, to, sign));
  const high = code.let(multiplyHigh(code, a.significand, b.significand));
  const low = code.let(i64.mul(a.significand, b.significand));
  const exponent = code.let(i32.sub(i32.add(a.exponent, b.exponent), c32(BIAS - 1)));
  code.if(i64.ge_s(high, c64(0)), () => {
    code.set(high, i64.or(i64.shl(high, c64(1)), i64.shr_u(low, c64(63))));
    code.set(low, i64.shl(low, c64(1)));
    code.set(exponent, i32.sub(exponent, c32(1)));
  });
  finish(code, control, to, sign, exponent, high, low);
};

/**
 * One digit of 32 bits of a quotient (Knuth, The Art of Computer Programming, 4.3.1, algorithm D): `rest`, which is below
 * the divisor, becomes the remainder with a digit of the dividend appended. The divisor's top bit is set.
 */
function digit(code: Code, rest: Local<"i64">, next: I64, divisor: I64): Local<"i64"> {
  const upper = code.let(i64.shr_u(divisor, c64(32)));
  const lower = code.let(i64.and(divisor, c64(0xffffffffn)));
  const guess = code.let(i64.div_u(rest, upper));
  const left = code.let(i64.sub(rest, i64.mul(guess, upper)));
  const base = c64(2n ** 32n);
  code.loop((again) => {
    const tooMuch = i32.or(
      i64.ge_u(guess, base),
      i64.gt_u(i64.mul(guess, lower), i64.or(i64.shl(left, c64(32)), next)),
    );
    code.if(tooMuch, () => {
      code.set(guess, i64.sub(guess, c64(1)));
      code.set(left, i64.add(left, upper));
      code.brIf(again, i64.lt_u(left, base));
    });
  });
  code.set(rest, i64.sub(i64.or(i64.shl(rest, c64(32)), next), i64.mul(guess, divisor)));
  return guess;
}

export const divide: X87Body = (code, { a: first, b: second, to, control }) => {
  const a = unpack(code, first);
  const b = unpack(code, second);
  const sign = code.let(i32.xor(a.sign, b.sign));
  code.if(isZero(b), () => code.return(NEVER));
  code.if(isZero(a), () => giveZero(code, to, sign));
  const exponent = code.let(i32.add(i32.sub(a.exponent, b.exponent), c32(BIAS - 1)));
  // The dividend, of 128 bits, is made less than the divisor times 2 ** 64, so that the quotient has 64 bits.
  const rest = code.let(a.significand);
  const below = code.let(c64(0));
  code.if(i64.ge_u(rest, b.significand), () => {
    code.set(below, i64.shl(rest, c64(63)));
    code.set(rest, i64.shr_u(rest, c64(1)));
    code.set(exponent, i32.add(exponent, c32(1)));
  });
  const upper = digit(code, rest, i64.shr_u(below, c64(32)), b.significand);
  const lower = digit(code, rest, c64(0), b.significand);
  const quotient = i64.or(i64.shl(upper, c64(32)), lower);
  // What is left, against half of the divisor.
  const twice = code.let(i64.shl(rest, c64(1)));
  const isMore = i32.or(i64.lt_s(rest, c64(0)), i64.ge_u(twice, b.significand));
  const isHalf = i32.and(i64.ge_s(rest, c64(0)), i64.eq(twice, b.significand));
  const isSome = i32.and(i64.ne(rest, c64(0)), i32.eqz(isHalf));
  const behind = i64.or(i64.shl(bit(isMore), c64(63)), bit(isSome));
  finish(code, control, to, sign, exponent, quotient, behind);
};

export const squareRoot: X87Body = (code, { a: first, to, control }) => {
  const a = unpack(code, first);
  code.if(isZero(a), () => giveZero(code, to, a.sign));
  code.if(a.sign, () => code.return(NEVER));
  // The square, of 128 bits, has an even exponent: the significand, or half of it, with zeros behind.
  const isEven = code.let(i32.eqz(i32.and(i32.sub(a.exponent, c32(BIAS)), c32(1))));
  const high = code.let(i64.shr_u(a.significand, bit(isEven)));
  const low = code.let(select(isEven, i64.shl(a.significand, c64(63)), c64(0)));
  // A root that floats know to 52 bits: half the square fits a signed integer.
  const half = f64.convert_i64_s(i64.shr_u(high, c64(1)));
  const guess = code.let(f64.sqrt(f64.mul(half, f64.const(2 ** 65))));
  // The guess may be 2 ** 64, so it is made a little less.
  const root = code.let(i64.shl(i64.trunc_f64_s(f64.mul(guess, f64.const(0.5 - 2 ** -53))), c64(1)));

  // One step of Newton's by the difference of the squares.
  const restHigh = code.local("i64");
  const restLow = code.local("i64");
  const subtractSquare = () => {
    const squareLow = code.let(i64.mul(root, root));
    const squareHigh = code.let(multiplyHigh(code, root, root));
    code.set(restLow, i64.sub(low, squareLow));
    code.set(restHigh, i64.sub(i64.sub(high, squareHigh), bit(i64.lt_u(low, squareLow))));
  };
  subtractSquare();
  const difference = f64.add(
    f64.mul(f64.convert_i64_s(restHigh), f64.const(2 ** 64)),
    f64.mul(f64.convert_i64_s(i64.shr_u(restLow, c64(1))), f64.const(2)),
  );
  const step = code.let(i64.trunc_f64_s(f64.div(difference, f64.mul(guess, f64.const(2)))));
  const moved = code.let(i64.add(root, step));
  // It does not leave 64 bits.
  const beyond = i32.and(i64.gt_s(step, c64(0)), i64.lt_u(moved, root));
  code.set(root, select(beyond, c64(-1), moved));
  subtractSquare();
  // Then by units, until the remainder is from 0 to twice the root.
  code.loop((again) => {
    code.if(i64.lt_s(restHigh, c64(0)), () => {
      code.set(root, i64.sub(root, c64(1)));
      change(code, restHigh, restLow, root, true);
      code.br(again);
    });
    const twiceHigh = i64.shr_u(root, c64(63));
    const twiceLow = i64.shl(root, c64(1));
    const tooMuch = i32.or(
      i64.gt_s(restHigh, twiceHigh),
      i32.and(i64.eq(restHigh, twiceHigh), i64.gt_u(restLow, twiceLow)),
    );
    code.if(tooMuch, () => {
      change(code, restHigh, restLow, root, false);
      code.set(root, i64.add(root, c64(1)));
      code.br(again);
    });
  });
  // The remainder is never exactly the root and a quarter, which would be half a unit.
  const isMore = i32.or(i64.ne(restHigh, c64(0)), i64.gt_u(restLow, root));
  const isSome = i64.ne(i64.or(restHigh, restLow), c64(0));
  const behind = i64.or(i64.shl(bit(isMore), c64(63)), bit(isSome));
  const exponent = i32.add(i32.shr_s(i32.sub(a.exponent, c32(BIAS)), c32(1)), c32(BIAS));
  finish(code, control, to, c32(0), exponent, root, behind);
};

/** Adds `2 * root + 1` to a number of 128 bits, or takes it away. */
function change(code: Code, high: Local<"i64">, low: Local<"i64">, root: I64, adds: boolean): void {
  const byHigh = i64.shr_u(root, c64(63));
  const byLow = code.let(i64.or(i64.shl(root, c64(1)), c64(1)));
  const old = code.let(low);
  code.set(low, adds ? i64.add(low, byLow) : i64.sub(low, byLow));
  const carry = bit(adds ? i64.lt_u(low, byLow) : i64.lt_u(old, byLow));
  const sum = adds ? i64.add(i64.add(high, byHigh), carry) : i64.sub(i64.sub(high, byHigh), carry);
  code.set(high, sum);
}

/** Gives the condition codes. */
export const compare: X87Body = (code, { a: first, b: second }) => {
  const a = unpack(code, first);
  const b = unpack(code, second);
  const answer = (codes: I32) => code.return(codes);
  const less = code.local("i32");
  code.if(
    i32.eq(a.exponent, b.exponent),
    () => {
      const same = i32.or(i32.eq(a.sign, b.sign), isZero(a));
      code.if(i32.and(i64.eq(a.significand, b.significand), same), () => answer(c32(Status.C3)));
      code.set(less, i64.lt_u(a.significand, b.significand));
    },
    () => code.set(less, i32.lt_u(a.exponent, b.exponent)),
  );
  // The sign decides where they differ, else it turns magnitudes round.
  const isLess = select(i32.eq(a.sign, b.sign), i32.xor(less, a.sign), a.sign);
  answer(i32.mul(isLess, c32(Status.C0)));
};
