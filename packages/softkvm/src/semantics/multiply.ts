/** Multiplication and division: Intel SDM vol. 2. */

import { Vector } from "../cpu/layout.ts";
import type { I32, I64 } from "../wasm/expr.ts";
import { c32, c64, i32, i64, select } from "../wasm/ops.ts";
import { sizeOf } from "./arithmetic.ts";
import { type Context, Gpr, type Meaning } from "./context.ts";
import { setCarryOverflowSignParity } from "./flags.ts";
import { fromI64, signExtend, truncate, zeroExtend } from "./words.ts";

/** The upper half of a 64 by 64 bit product, from four products of halves. */
export function multiplyHigh(c: Context, a: I64, b: I64, signed: boolean): I64 {
  const low = (value: I64) => i64.and(value, c64(0xffffffffn));
  const high = (value: I64) => i64.shr_u(value, c64(32));
  const [aLow, aHigh, bLow, bHigh] = [c.let(low(a)), c.let(high(a)), c.let(low(b)), c.let(high(b))];
  const first = c.let(i64.add(i64.mul(aHigh, bLow), high(i64.mul(aLow, bLow))));
  const second = i64.add(i64.mul(aLow, bHigh), low(first));
  const unsigned = i64.add(i64.add(i64.mul(aHigh, bHigh), high(first)), high(c.let(second)));
  if (!signed) return unsigned;
  // A negative factor stands for itself plus 2^64.
  const correction = (sign: I64, other: I64) => i64.and(i64.shr_s(sign, c64(63)), other);
  return i64.sub(i64.sub(unsigned, correction(a, b)), correction(b, a));
}

/** MUL and the one-operand IMUL: rDX:rAX = rAX * operand. CF and OF say whether the upper half matters. */
function multiplyWide(signed: boolean): Meaning {
  return (c) => {
    const size = sizeOf(c);
    const extend = signed ? signExtend : zeroExtend;
    const a = c.let(extend(size, c.gpr(Gpr.RAX, size)));
    const b = c.let(extend(size, c.read(0)));
    const product = c.let(i64.mul(a, b));
    const low = c.let(fromI64(size, product));
    let overflow: I32;
    if (size === 8) {
      const high = c.let(multiplyHigh(c, a, b, signed));
      overflow = i64.ne(high, signed ? i64.shr_s(product, c64(63)) : c64(0));
      c.setGpr(Gpr.RAX, 8, low);
      c.setGpr(Gpr.RDX, 8, high);
    } else {
      overflow = i64.ne(product, extend(size, low));
      if (size === 1) c.setGpr(Gpr.RAX, 2, truncate(2, i32.wrap(product)));
      else {
        c.setGpr(Gpr.RAX, size, low);
        c.setGpr(Gpr.RDX, size, fromI64(size, i64.shr_u(product, c64(size * 8))));
      }
    }
    const set = c.let(overflow);
    // SF, ZF, AF and PF are undefined; Intel's processors give sign and parity of the low half.
    setCarryOverflowSignParity(c, size, set, set, low);
  };
}

/** IMUL with two or three operands: the product of the last two, truncated. */
const multiply: Meaning = (c) => {
  const size = sizeOf(c);
  const [left, right] = c.operands.length === 3 ? [1, 2] : [0, 1];
  const a = c.let(c.readExtended(left));
  const b = c.let(c.readExtended(right));
  const product = c.let(i64.mul(a, b));
  // Where nothing asks for the flags the narrow product is all that is left.
  const result = c.let(size === 8 ? product : truncate(size, i32.mul(i32.wrap(a), i32.wrap(b))));
  const overflow = c.let(
    size === 8
      ? i64.ne(multiplyHigh(c, a, b, true), i64.shr_s(product, c64(63)))
      : i64.ne(product, signExtend(size, result)),
  );
  c.write(0, result);
  setCarryOverflowSignParity(c, size, overflow, overflow, result);
};

/** DIV and IDIV: rDX:rAX by the operand. #DE when the divisor is 0 or the quotient does not fit. Flags stay. */
function divide(signed: boolean): Meaning {
  return (c) => {
    const size = sizeOf(c);
    if (size === 8) divide64(c, signed);
    else divideNarrow(c, size, signed);
  };
}

function divideNarrow(c: Context, size: 1 | 2 | 4, signed: boolean): void {
  const extend = signed ? signExtend : zeroExtend;
  const b = c.let(extend(size, c.read(0)));
  c.raiseIf(i64.eqz(b), Vector.DE);
  const dividend = c.let(
    size === 1
      ? extend(2, c.gpr(Gpr.RAX, 2))
      : extend(
          size === 4 ? 8 : 4,
          size === 4
            ? i64.or(i64.shl(zeroExtend(4, c.gpr(Gpr.RDX, 4)), c64(32)), zeroExtend(4, c.gpr(Gpr.RAX, 4)))
            : i32.or(i32.shl(c.gpr(Gpr.RDX, 2) as I32, c32(16)), c.gpr(Gpr.RAX, 2) as I32),
        ),
  );
  if (signed && size === 4) {
    // The one quotient that does not even fit 64 bits, which WebAssembly would trap on.
    c.raiseIf(i32.and(i64.eq(dividend, c64(-(2n ** 63n))), i64.eq(b, c64(-1))), Vector.DE);
  }
  const quotient = c.let(signed ? i64.div_s(dividend, b) : i64.div_u(dividend, b));
  const low = c.let(fromI64(size, quotient));
  c.raiseIf(i64.ne(quotient, extend(size, low)), Vector.DE);
  const remainder = c.let(fromI64(size, signed ? i64.rem_s(dividend, b) : i64.rem_u(dividend, b)));
  if (size === 1) {
    c.setGpr(Gpr.RAX, 2, i32.or(low as I32, i32.shl(remainder as I32, c32(8))));
    return;
  }
  c.setGpr(Gpr.RAX, size, low);
  c.setGpr(Gpr.RDX, size, remainder);
}

/** 128 by 64 bits. Nearly always the upper half is only the sign; otherwise one bit at a time. */
function divide64(c: Context, signed: boolean): void {
  const b = c.let(c.read(0) as I64);
  c.raiseIf(i64.eqz(b), Vector.DE);
  const high = c.let(c.gpr(Gpr.RDX, 8) as I64);
  const low = c.let(c.gpr(Gpr.RAX, 8) as I64);
  const negative = (value: I64) => i64.lt_s(value, c64(0));
  // Magnitudes: of the 128-bit dividend, and of the divisor.
  const minus = c.let(signed ? negative(high) : c32(0));
  const minusB = c.let(signed ? negative(b) : c32(0));
  const divisor = c.let(select(minusB, i64.sub(c64(0), b), b));
  const lowMagnitude = c.let(select(minus, i64.sub(c64(0), low), low));
  const borrow = i64.extend_i32_u(i64.ne(low, c64(0)));
  const highMagnitude = c.let(select(minus, i64.sub(i64.sub(c64(0), high), borrow), high));
  c.raiseIf(i64.ge_u(highMagnitude, divisor), Vector.DE);

  const quotient = c.code.local("i64");
  const remainder = c.code.local("i64");
  c.code.if(
    i64.eqz(highMagnitude),
    () => {
      c.code.set(quotient, i64.div_u(lowMagnitude, divisor));
      c.code.set(remainder, i64.rem_u(lowMagnitude, divisor));
    },
    () => {
      c.code.set(remainder, highMagnitude);
      c.code.set(quotient, lowMagnitude);
      const counter = c.code.let(c32(64));
      c.code.loop((again) => {
        // remainder:quotient one place to the left; where the divisor fits into it, it goes out and a 1 comes in.
        const out = c.let(i64.shr_u(remainder, c64(63)));
        c.code.set(remainder, i64.or(i64.shl(remainder, c64(1)), i64.shr_u(quotient, c64(63))));
        c.code.set(quotient, i64.shl(quotient, c64(1)));
        c.code.if(i32.or(i32.wrap(out), i64.ge_u(remainder, divisor)), () => {
          c.code.set(remainder, i64.sub(remainder, divisor));
          c.code.set(quotient, i64.or(quotient, c64(1)));
        });
        c.code.set(counter, i32.sub(counter, c32(1)));
        c.code.brIf(again, counter);
      });
    },
  );
  if (!signed) {
    c.setGpr(Gpr.RAX, 8, quotient);
    c.setGpr(Gpr.RDX, 8, remainder);
    return;
  }
  const minusQuotient = c.let(i32.xor(minus, minusB));
  const signedQuotient = c.let(select(minusQuotient, i64.sub(c64(0), quotient), quotient));
  // The magnitude may be 2^63 for a negative quotient only.
  c.raiseIf(i32.and(i64.ne(quotient, c64(0)), i32.xor(i64.lt_s(signedQuotient, c64(0)), minusQuotient)), Vector.DE);
  c.setGpr(Gpr.RAX, 8, signedQuotient);
  c.setGpr(Gpr.RDX, 8, select(minus, i64.sub(c64(0), remainder), remainder));
}

export const multiplication: Record<string, Meaning> = {
  mul: multiplyWide(false),
  "imul.wide": multiplyWide(true),
  imul: multiply,
  div: divide(false),
  idiv: divide(true),
};
