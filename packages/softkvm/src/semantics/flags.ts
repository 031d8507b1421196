/**
 * The arithmetic flags. They are kept as a result and the carries that led to it (`State.flagResult`, `Aux`); each flag is
 * read off these when something asks for it. Where code is compiled, what nothing asks for is never computed.
 */

import { Aux } from "../cpu/layout.ts";
import type { I32, I64 } from "../wasm/expr.ts";
import { c32, c64, i32, i64 } from "../wasm/ops.ts";
import type { Comparison, Context, IntegerSize, Value } from "./context.ts";
import { low32, signExtend, word } from "./words.ts";

/** The carries out of each bit, as `Aux`: the top one, the one below it, and the one out of bit 3. */
function auxOfCarries(size: IntegerSize, carries: Value): I32 {
  const adjust = i32.and(low32(carries), c32(Aux.ADJUST));
  const top = c32(Aux.CARRY | Aux.PARTIAL);
  if (size === 8) return i32.or(i32.and(i32.wrap(i64.shr_u(carries as I64, c64(32))), top), adjust);
  if (size === 4) return i32.and(carries as I32, c32(Aux.CARRY | Aux.PARTIAL | Aux.ADJUST));
  return i32.or(i32.and(i32.shl(carries as I32, c32(32 - size * 8)), top), adjust);
}

/** After `result = a + b`. All three are used more than once: pass locals or constants. */
export function flagsOfAdd(c: Context, size: IntegerSize, a: Value, b: Value, result: Value): void {
  c.setFlagsOf({ operation: "add", size, a, b, result }, () => auxOfAdd(c, size, a, b, result));
}
/** The same after `result = a + b + carry`. */
export function flagsOfAddCarry(c: Context, size: IntegerSize, a: Value, b: Value, result: Value): void {
  c.setFlags(signExtend(size, result), auxOfAdd(c, size, a, b, result));
}
function auxOfAdd(c: Context, size: IntegerSize, a: Value, b: Value, result: Value): I32 {
  const w = word(size);
  // A bit carries when both have it, or one has it and the sum has not.
  const carries = w.or(w.and(a, b), w.and(w.or(a, b), w.xor(result, w.const(-1))));
  return auxOfCarries(size, c.let(carries));
}

/** After `result = a - b`. */
export function flagsOfSub(c: Context, size: IntegerSize, a: Value, b: Value, result: Value): void {
  c.setFlagsOf({ operation: "sub", size, a, b, result }, () => auxOfSub(c, size, a, b, result));
}
/** The same after `result = a - b - borrow`. */
export function flagsOfSubBorrow(c: Context, size: IntegerSize, a: Value, b: Value, result: Value): void {
  c.setFlags(signExtend(size, result), auxOfSub(c, size, a, b, result));
}
function auxOfSub(c: Context, size: IntegerSize, a: Value, b: Value, result: Value): I32 {
  const w = word(size);
  const notA = w.xor(a, w.const(-1));
  const borrows = w.or(w.and(notA, b), w.and(w.or(notA, b), result));
  return auxOfCarries(size, c.let(borrows));
}

/** After AND, OR, XOR, TEST: CF and OF are 0; AF, undefined, is 0 as on current processors. */
export function flagsOfLogic(c: Context, size: IntegerSize, result: Value): void {
  c.setFlags(signExtend(size, result), c32(0));
}

/** {@link flagsOfAdd} or Sub for INC and DEC, which leave CF alone. `carries` as there. */
export function flagsKeepingCarry(c: Context, size: IntegerSize, carries: Value, result: Value): void {
  const carry = c.let(i32.and(c.flagAux(), c32(Aux.CARRY)));
  const aux = c.let(auxOfCarries(size, c.let(carries)));
  const overflow = i32.and(i32.xor(aux, i32.shl(aux, c32(1))), c32(Aux.CARRY));
  c.setFlags(signExtend(size, result), withCarryAndOverflow(carry, c.let(overflow), i32.and(aux, c32(Aux.ADJUST))));
}

/** An aux with CF and OF given as bit 31 of two values (0 elsewhere), and whatever else in `rest`. */
export function withCarryAndOverflow(carry: I32, overflow: I32, rest: I32 = c32(0)): I32 {
  // PARTIAL is CF XOR OF, one bit below.
  const partial = i32.shr_u(i32.xor(carry, overflow), c32(1));
  return i32.or(i32.or(carry, partial), rest);
}

/** CF as 0 or 1. */
export function carryFlag(c: Context): I32 {
  return i32.shr_u(c.flagAux(), c32(31));
}

/** Changes CF and leaves the other flags: `carry` is 0 or 1. */
export function setCarry(c: Context, carry: I32): void {
  const top = c.let(i32.shl(carry, c32(31)));
  const aux = c.let(c.flagAux());
  const overflow = c.let(i32.and(i32.xor(aux, i32.shl(aux, c32(1))), c32(Aux.CARRY)));
  c.setFlags(c.flagResult(), withCarryAndOverflow(top, overflow, i32.and(aux, c32(~(Aux.CARRY | Aux.PARTIAL)))));
}

/** Sets CF and OF to 0 or 1 each, and the others by a result. AF, undefined there, is 0. */
export function setCarryOverflowResult(c: Context, size: IntegerSize, carry: I32, overflow: I32, result: Value): void {
  const aux = withCarryAndOverflow(c.let(i32.shl(carry, c32(31))), c.let(i32.shl(overflow, c32(31))));
  c.setFlags(signExtend(size, result), aux);
}

/** The same but for ZF, which is 0 whatever the result: a bit between the low byte and the sign sees to that. */
export function setCarryOverflowSignParity(
  c: Context,
  size: IntegerSize,
  carry: I32,
  overflow: I32,
  result: Value,
): void {
  const aux = withCarryAndOverflow(c.let(i32.shl(carry, c32(31))), c.let(i32.shl(overflow, c32(31))));
  c.setFlags(i64.or(signExtend(size, result), c64(1 << 30)), aux);
}

/** Sets ZF and CF, each 0 or 1 and evaluated twice, and clears the others: PTEST, COMISS. */
export function setZeroAndCarry(c: Context, zero: I32, carry: I32): void {
  // A result of 1 has odd parity, one of 0 even, which the delta corrects.
  const aux = withCarryAndOverflow(c.let(i32.shl(carry, c32(31))), c32(0), i32.shl(zero, c32(Aux.PARITY_SHIFT)));
  c.setFlags(i64.extend_i32_u(i32.xor(zero, c32(1))), aux);
}

/** ZF, CF and PF by themselves, each 0 or 1; PF is set with ZF only. The other flags are 0. */
export function setComparison(c: Context, zero: I32, carry: I32, parity: I32): void {
  // As above, but that a result of 0 may keep its parity.
  const delta = i32.shl(i32.xor(zero, parity), c32(Aux.PARITY_SHIFT));
  const aux = withCarryAndOverflow(c.let(i32.shl(carry, c32(31))), c32(0), delta);
  c.setFlags(i64.extend_i32_u(i32.xor(zero, c32(1))), aux);
}

function zeroFlag(c: Context): I32 {
  return i64.eqz(c.flagResult());
}

function signFlag(c: Context): I32 {
  return i32.xor(i32.wrap(i64.shr_u(c.flagResult(), c64(63))), i32.and(c.flagAux(), c32(Aux.SIGN_DELTA)));
}

function overflowFlag(c: Context): I32 {
  const aux = c.let(c.flagAux());
  return i32.shr_u(i32.xor(aux, i32.shl(aux, c32(1))), c32(31));
}

function parityFlag(c: Context): I32 {
  const delta = i32.shr_u(c.flagAux(), c32(Aux.PARITY_SHIFT));
  const byte = i32.and(i32.xor(i32.wrap(c.flagResult()), delta), c32(0xff));
  return i32.and(i32.xor(i32.popcnt(byte), c32(1)), c32(1));
}

/** The six flags in their places in RFLAGS. */
export function arithmeticFlags(c: Context): I32 {
  const at = (flag: I32, bit: number) => i32.shl(flag, c32(bit));
  const adjust = i32.shl(i32.and(c.flagAux(), c32(Aux.ADJUST)), c32(1));
  return [at(parityFlag(c), 2), adjust, at(zeroFlag(c), 6), at(signFlag(c), 7), at(overflowFlag(c), 11)].reduce(
    (all, flag) => i32.or(all, flag),
    carryFlag(c),
  );
}

/** Sets the six flags from their places in a value; see `CpuState.rflags`, which does the same. */
export function setArithmeticFlags(c: Context, flags: I32): void {
  const f = c.let(flags);
  const bit = (position: number) => i32.and(i32.shr_u(f, c32(position)), c32(1));
  const zero = c.let(bit(6));
  const carry = c.let(i32.shl(f, c32(31)));
  const overflow = c.let(i32.and(i32.shl(f, c32(20)), c32(Aux.CARRY)));
  const adjust = i32.and(i32.shr_u(f, c32(1)), c32(Aux.ADJUST));
  // The result is 0 (parity even) or 1 (odd); the delta corrects what PF asks for.
  const parity = i32.shl(i32.xor(bit(2), zero), c32(Aux.PARITY_SHIFT));
  const rest = i32.or(i32.or(adjust, parity), bit(7));
  c.setFlags(i64.extend_i32_u(i32.xor(zero, c32(1))), withCarryAndOverflow(carry, overflow, rest));
}

/** Condition codes 0 to 15 as instructions encode them (Intel SDM vol. 1, appendix B): 0 or 1. */
export function condition(c: Context, code: number): I32 {
  const holds = evenCondition(c, code >> 1);
  return code & 1 ? i32.eqz(holds) : holds;
}

function evenCondition(c: Context, pair: number): I32 {
  const comparison = c.compared();
  return (comparison && conditionOf(comparison, pair)) ?? conditionOfFlags(c, pair);
}

/** A condition by what was compared; undefined where the flags are as good. */
function conditionOf({ operation, size, a, b, result }: Comparison, pair: number): I32 | undefined {
  const w = word(size);
  const signed = (value: Value) => (size >= 4 ? value : (i32.wrap(signExtend(size, value)) as Value));
  if (pair === 4) return i64.lt_s(signExtend(size, result), c64(0));
  if (operation === "add") return pair === 1 ? w.lt_u(result, a) : undefined;
  switch (pair) {
    case 1:
      return w.lt_u(a, b);
    case 2:
      return w.eq(a, b);
    case 3:
      return i32.eqz(w.lt_u(b, a));
    case 6:
      return w.lt_s(signed(a), signed(b));
    case 7:
      return i32.eqz(w.lt_s(signed(b), signed(a)));
    default:
      return undefined;
  }
}

function conditionOfFlags(c: Context, pair: number): I32 {
  switch (pair) {
    case 0:
      return overflowFlag(c);
    case 1:
      return carryFlag(c);
    case 2:
      return zeroFlag(c);
    case 3:
      return i32.or(carryFlag(c), zeroFlag(c));
    case 4:
      return signFlag(c);
    case 5:
      return parityFlag(c);
    case 6:
      return i32.xor(signFlag(c), overflowFlag(c));
    default:
      return i32.or(i32.xor(signFlag(c), overflowFlag(c)), zeroFlag(c));
  }
}
