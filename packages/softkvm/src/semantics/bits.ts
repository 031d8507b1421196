/** Single bits, scans, byte order: Intel SDM vol. 2. */

import { Aux } from "../cpu/layout.ts";
import type { I32, I64 } from "../wasm/expr.ts";
import { c32, c64, i32, i64 } from "../wasm/ops.ts";
import { sizeOf } from "./arithmetic.ts";
import type { Context, IntegerSize, Meaning, Value } from "./context.ts";
import { setCarry } from "./flags.ts";
import { fromI64, low32, signExtend, truncate, word, zeroExtend } from "./words.ts";

/** BT and its kin. A register as bit number reaches beyond a memory operand: it selects the word first. */
function bitTest(change?: (size: IntegerSize, old: Value, bit: Value) => Value): Meaning {
  return (c) => {
    const size = sizeOf(c);
    const w = word(size);
    const number = c.let(bitNumber(c, size));
    const within = c.let(w.and(number, w.const(size * 8 - 1)));
    const test = (value: Value) => i32.and(low32(w.shr_u(value, within)), c32(1));
    if (c.operands[0]!.kind === "mem" && c.operands[1]!.kind === "gpr") {
      bitString(c, size, number, within, change);
      return;
    }
    if (change === undefined) {
      setCarry(c, c.let(test(c.read(0))));
      return;
    }
    let carry: I32 | undefined;
    c.modify(0, (old) => {
      const value = c.let(old);
      carry = c.let(test(value));
      return truncate(size, change(size, value, c.let(w.shl(w.const(1), within))));
    });
    setCarry(c, carry!);
  };
}

/** Operand 1 in the size of operand 0: an immediate has one byte. */
function bitNumber(c: Context, size: IntegerSize): Value {
  const own = c.operands[1]!.size as IntegerSize;
  return own === size ? c.read(1) : fromI64(size, zeroExtend(own, c.read(1)));
}

function bitString(
  c: Context,
  size: IntegerSize,
  number: Value,
  within: Value,
  change?: (size: IntegerSize, old: Value, bit: Value) => Value,
): void {
  const w = word(size);
  const shift = { 1: 3, 2: 4, 4: 5, 8: 6 }[size];
  // The signed word number, in bytes from the operand's address.
  const bytes = i64.shl(i64.shr_s(signExtend(size, number), c64(shift)), c64(Math.log2(size)));
  const sum = i64.add(c.effectiveAddress(0), bytes);
  const offset = c.let(zeroExtend(c.addressSize, fromI64(c.addressSize, sum)));
  const address = c.linear("operand", offset, size, change === undefined ? "read" : "write");
  if (change === undefined) {
    setCarry(c, c.let(i32.and(low32(w.shr_u(c.load(size, address), within)), c32(1))));
    return;
  }
  let carry: I32 | undefined;
  c.modifyAt(size, address, (old) => {
    const value = c.let(old);
    carry = c.let(i32.and(low32(w.shr_u(value, within)), c32(1)));
    return truncate(size, change(size, value, c.let(w.shl(w.const(1), within))));
  });
  setCarry(c, carry!);
}

/** BSF and BSR: with a source of 0 the destination stays (as Intel and AMD do) and ZF is 1. */
function scan(forward: boolean): Meaning {
  return (c) => {
    const size = sizeOf(c);
    const w = word(size);
    const source = c.let(c.read(1));
    const parity = c.code.let(c64(0));
    c.code.if(
      w.eqz(source),
      () => {
        // A 32-bit destination that keeps its value still loses its upper half on no current processor.
      },
      () => {
        const width = size === 8 ? 64 : 32;
        const found = c.let(forward ? w.ctz(source) : w.sub(w.const(width - 1), w.clz(source)));
        c.write(0, found);
        c.code.set(parity, zeroExtend(size, found));
      },
    );
    // Only ZF is defined. Intel's processors clear the others but PF, which is that of the number found.
    c.setFlags(i64.or(parity, i64.shl(i64.extend_i32_u(w.ne(source, w.const(0))), c64(32))), c32(0));
  };
}

/** TZCNT and LZCNT: the width for 0, which also sets CF. */
function count(forward: boolean): Meaning {
  return (c) => {
    const size = sizeOf(c);
    const w = word(size);
    const source = c.let(c.read(1));
    const bits = size * 8;
    let result: Value;
    if (size >= 4) result = forward ? w.ctz(source) : w.clz(source);
    else if (forward) result = w.ctz(w.or(source, w.const(1 << bits)));
    else result = w.sub(w.clz(source), w.const(32 - bits));
    const counted = c.let(result);
    const carry = c.let(w.eqz(source));
    c.write(0, counted);
    // OF, SF, PF and AF are undefined; Intel's processors clear them: a result of 0 or one, its parity corrected.
    const zero = c.let(w.eqz(counted));
    c.setFlags(
      i64.extend_i32_u(i32.eqz(zero)),
      i32.or(i32.mul(carry, c32(Aux.CARRY | Aux.PARTIAL)), i32.shl(zero, c32(Aux.PARITY_SHIFT))),
    );
  };
}

const swap32 = (c: Context, value: I32): I32 => {
  const v = c.let(value);
  // Rotating by 8 puts bytes 1 and 3 right, by 24 bytes 0 and 2.
  return i32.or(i32.and(i32.rotl(v, c32(8)), c32(0x00ff00ff)), i32.and(i32.rotr(v, c32(8)), c32(0xff00ff00 | 0)));
};

export function swapBytes(c: Context, size: IntegerSize, value: Value): Value {
  if (size === 2) {
    const v = c.let(value as I32);
    return i32.and(i32.or(i32.shl(v, c32(8)), i32.shr_u(v, c32(8))), c32(0xffff));
  }
  if (size === 4) return swap32(c, value as I32);
  const v = c.let(value as I64);
  const low = i64.extend_i32_u(swap32(c, i32.wrap(v)));
  const high = i64.extend_i32_u(swap32(c, i32.wrap(i64.shr_u(v, c64(32)))));
  return i64.or(i64.shl(low, c64(32)), high);
}

export const bits: Record<string, Meaning> = {
  bt: bitTest(),
  bts: bitTest((size, old, bit) => word(size).or(old, bit)),
  btr: bitTest((size, old, bit) => word(size).and(old, word(size).xor(bit, word(size).const(-1)))),
  btc: bitTest((size, old, bit) => word(size).xor(old, bit)),
  bsf: scan(true),
  bsr: scan(false),
  tzcnt: count(true),
  lzcnt: count(false),
  // Of 16 bits the result is undefined; processors give 0.
  bswap: (c) => c.write(0, c.operandSize === 2 ? c32(0) : swapBytes(c, sizeOf(c), c.read(0))),
  movbe: (c) => c.write(0, swapBytes(c, sizeOf(c), c.read(1))),
  popcnt: (c) => {
    const size = sizeOf(c);
    const source = c.let(c.read(1));
    const result = c.let(word(size).popcnt(source));
    c.write(0, result);
    // ZF by the source; all others 0, SF and PF too: a result of 0 or one whose parity is odd and sign 0.
    const zero = word(size).eqz(source);
    c.setFlags(zeroExtend(4, i32.eqz(zero)), i32.shl(zero, c32(8)));
  },
};
