/** Shifts and rotates: Intel SDM vol. 2, "SAL/SAR/SHL/SHR", "RCL/RCR/ROL/ROR", "SHLD", "SHRD". */

import { Aux } from "../cpu/layout.ts";
import type { I32, I64 } from "../wasm/expr.ts";
import { c32, c64, i32, i64, select } from "../wasm/ops.ts";
import { sizeOf } from "./arithmetic.ts";
import type { Context, IntegerSize, Meaning, Value } from "./context.ts";
import { carryFlag, setCarryOverflowResult, withCarryAndOverflow } from "./flags.ts";
import { fromI64, low32, signBit, signExtend, truncate, zeroExtend } from "./words.ts";

/** The count that processors use: 5 bits, or 6 for 64-bit operands. */
function maskedCount(c: Context, size: IntegerSize, operand: number): I32 {
  return c.let(i32.and(low32(c.read(operand)), c32(size === 8 ? 63 : 31)));
}

/** Bit `position` of a 64-bit value as 0 or 1; positions past 63 count modulo 64. */
function bitAt(value: I64, position: I64): I32 {
  return i32.and(i32.wrap(i64.shr_u(value, position)), c32(1));
}

/**
 * A shift in 64 bits. With a count of 0 nothing changes, flags included. `compute` gives the result, CF and OF for a
 * count that is not 0; `a` is the operand as the shift needs it extended.
 */
function shift(
  operation: "shl" | "shr_u" | "shr_s",
  extend: (size: IntegerSize, value: Value) => I64,
  compute: (size: IntegerSize, a: I64, count: I64) => { result: I64; carry: I32; overflow: I32 },
): Meaning {
  return (c) => {
    const size = sizeOf(c);
    const count = maskedCount(c, size, 1);
    let result: Value | undefined;
    let parts: ReturnType<typeof compute> | undefined;
    c.modify(0, (old) => {
      const a = c.let(extend(size, old));
      parts = compute(size, a, c.let(i64.extend_i32_u(count)));
      // Where nothing asks for the flags the narrow shift is all that is left.
      result = c.let(size === 8 ? parts.result : truncate(size, i32[operation](i32.wrap(a), count)));
      return result;
    });
    c.code.if(count, () => {
      const carry = c.let(parts!.carry);
      setCarryOverflowResult(c, size, carry, parts!.overflow, result!);
    });
  };
}

/**
 * OF of all shifts and rotates is defined for counts of 1 only. Intel's processors compute it for every other count by
 * the same formula, from the operand before the shift.
 */
const topTwoDiffer = (size: IntegerSize, a: I64): I32 =>
  i32.xor(bitAt(a, c64(bits(size) - 1)), bitAt(a, c64(bits(size) - 2)));

const bits = (size: IntegerSize) => size * 8;

const shl = shift("shl", zeroExtend, (size, a, count) => {
  // One place short, so that the last bit shifted out is still there. For 64 bits it has left the word: take it before.
  const carry = size === 8 ? bitAt(a, i64.sub(c64(64), count)) : bitAt(i64.shl(a, count), c64(bits(size)));
  return { result: i64.shl(a, count), carry, overflow: topTwoDiffer(size, a) };
});

const shr = shift("shr_u", zeroExtend, (size, a, count) => ({
  result: i64.shr_u(a, count),
  carry: bitAt(a, i64.sub(count, c64(1))),
  overflow: bitAt(a, c64(bits(size) - 1)),
}));

const sar = shift("shr_s", signExtend, (_size, a, count) => ({
  result: i64.shr_s(a, count),
  carry: bitAt(a, i64.sub(count, c64(1))),
  overflow: c32(0),
}));

/** ROL and ROR change CF and OF only; a count that is a multiple of the width still sets CF. */
function rotate(left: boolean): Meaning {
  return (c) => {
    const size = sizeOf(c);
    const count = maskedCount(c, size, 1);
    let a: I64 | undefined;
    let result: Value | undefined;
    c.modify(0, (old) => {
      const before = c.let(old);
      a = c.let(zeroExtend(size, before));
      result = c.let(rotated(c, size, before, count, left));
      return result;
    });
    c.code.if(count, () => {
      const carry = c.let(left ? i32.and(low32(result!), c32(1)) : signBit(size, result!));
      let overflow = left ? topTwoDiffer(size, a!) : i32.xor(bitAt(a!, c64(0)), bitAt(a!, c64(bits(size) - 1)));
      if (c.operands[0]!.kind !== "mem" && c.operands[1]!.kind === "imm") {
        // For a register and an immediate count above 1 OF stays.
        const aux = c.flagAux();
        const old = i32.xor(i32.shr_u(aux, c32(31)), i32.and(i32.shr_u(aux, c32(30)), c32(1)));
        overflow = selectI32(i32.eq(count, c32(1)), overflow, old);
      }
      setCarryOverflow(c, carry, overflow);
    });
  };
}

function rotated(c: Context, size: IntegerSize, value: Value, count: I32, left: boolean): Value {
  if (size === 8) {
    const by = i64.extend_i32_u(count);
    return left ? i64.rotl(value as I64, by) : i64.rotr(value as I64, by);
  }
  if (size === 4) return left ? i32.rotl(value as I32, count) : i32.rotr(value as I32, count);
  // Repeated, so that a rotate of the 32-bit word is one of the part.
  const v = c.let(value as I32);
  const doubled = size === 2 ? i32.or(v, i32.shl(v, c32(16))) : i32.mul(v, c32(0x01010101));
  const turned = left ? i32.rotl(doubled, count) : i32.rotr(doubled, count);
  return i32.and(turned, c32(size === 2 ? 0xffff : 0xff));
}

function setCarryOverflow(c: Context, carry: I32, overflow: I32): void {
  const rest = i32.and(c.flagAux(), c32(~(Aux.CARRY | Aux.PARTIAL)));
  const aux = withCarryAndOverflow(c.let(i32.shl(carry, c32(31))), c.let(i32.shl(overflow, c32(31))), rest);
  c.setFlags(c.flagResult(), aux);
}

/** RCL and RCR: a rotate of the operand with CF as one bit more. */
function rotateThroughCarry(left: boolean): Meaning {
  return (c) => {
    const size = sizeOf(c);
    const width = bits(size);
    const masked = maskedCount(c, size, 1);
    // The rotate has width + 1 places; only 8- and 16-bit counts can exceed that.
    const count = c.let(size <= 2 ? i32.rem_u(masked, c32(width + 1)) : masked);
    const oldCarry = c.let(i64.extend_i32_u(carryFlag(c)));
    let before: I64 | undefined;
    let carry: I32 | undefined;
    c.modify(0, (old) => {
      const a = c.let(zeroExtend(size, old));
      before = a;
      const n = c.let(i64.extend_i32_u(count));
      const rest = c.let(i64.sub(c64(width), n));
      // a:CF to the left: a << n, CF at n - 1, and the bits that came out at the top below it. A shift by 64 is one by 0
      // in WebAssembly, so the part that may move 64 places goes in two steps.
      const moved = left
        ? i64.or(i64.or(i64.shl(a, n), i64.shl(oldCarry, i64.sub(n, c64(1)))), i64.shr_u(i64.shr_u(a, rest), c64(1)))
        : i64.or(i64.or(i64.shr_u(a, n), i64.shl(oldCarry, rest)), i64.shl(i64.shl(a, rest), c64(1)));
      const out = left ? bitAt(a, rest) : bitAt(a, i64.sub(n, c64(1)));
      const zero = c.let(i32.eqz(count));
      carry = c.let(selectI32(zero, i32.wrap(oldCarry), out));
      return c.let(fromI64(size, selectI64(zero, a, moved)));
    });
    // A whole turn changes nothing, flags included.
    c.code.if(count, () => {
      const top = bitAt(before!, c64(width - 1));
      const overflow = left ? topTwoDiffer(size, before!) : i32.xor(top, i32.wrap(oldCarry));
      setCarryOverflow(c, carry!, c.let(overflow));
    });
  };
}

const selectI32 = (condition: I32, a: I32, b: I32): I32 => select(condition, a, b);
const selectI64 = (condition: I32, a: I64, b: I64): I64 => select(condition, a, b);

/** SHLD and SHRD. For 16 bits and counts above 16 the result is undefined; this is what Intel's processors give. */
function doubleShift(left: boolean): Meaning {
  return (c) => {
    const size = sizeOf(c);
    const width = bits(size);
    const count = maskedCount(c, size, 2);
    const b = c.let(zeroExtend(size, c.read(1)));
    const n = c.let(i64.extend_i32_u(count));
    let a: Value | undefined;
    let result: Value | undefined;
    let carry: I32 | undefined;
    c.modify(0, (old) => {
      a = c.let(old);
      const v = c.let(zeroExtend(size, a));
      const rest = c.let(i64.sub(c64(width), n));
      if (size === 8) {
        const moved = left ? i64.or(i64.shl(v, n), i64.shr_u(b, rest)) : i64.or(i64.shr_u(v, n), i64.shl(b, rest));
        result = c.let(selectI64(i64.eqz(n), v, moved));
        carry = left ? bitAt(v, rest) : bitAt(v, i64.sub(n, c64(1)));
        return result;
      }
      // One wide word: for 16 bits a third copy stands behind, for counts above 16.
      const wide = left
        ? c.let(
            size === 2 ? i64.or(i64.or(i64.shl(v, c64(32)), i64.shl(b, c64(16))), v) : i64.or(i64.shl(v, c64(32)), b),
          )
        : c.let(
            size === 2 ? i64.or(i64.or(v, i64.shl(b, c64(16))), i64.shl(v, c64(32))) : i64.or(v, i64.shl(b, c64(32))),
          );
      const moved = left ? i64.shr_u(i64.shl(wide, n), c64(32)) : i64.shr_u(wide, n);
      result = c.let(fromI64(size, moved));
      // To the left, the last bit out of a 16-bit operand is above the 48 bits of the wide word.
      const out = size === 2 ? bitAt(i64.shl(wide, n), c64(48)) : bitAt(v, rest);
      carry = left ? out : bitAt(wide, i64.sub(n, c64(1)));
      return result;
    });
    c.code.if(count, () => {
      const value = zeroExtend(size, a!);
      const overflow = left ? topTwoDiffer(size, value) : i32.xor(bitAt(value, c64(width - 1)), bitAt(b, c64(0)));
      setCarryOverflowResult(c, size, c.let(carry!), overflow, result!);
    });
  };
}

export const shifts: Record<string, Meaning> = {
  shl,
  sal: shl,
  shr,
  sar,
  rol: rotate(true),
  ror: rotate(false),
  rcl: rotateThroughCarry(true),
  rcr: rotateThroughCarry(false),
  shld: doubleShift(true),
  shrd: doubleShift(false),
};
