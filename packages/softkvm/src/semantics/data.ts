/** Moves, exchanges, stack and flag instructions: Intel SDM vol. 2. */

import { Vector } from "../cpu/layout.ts";
import { Flag } from "../cpu/state.ts";
import type { I32, I64, Local } from "../wasm/expr.ts";
import { c32, c64, i32, i64, select } from "../wasm/ops.ts";
import { sizeOf } from "./arithmetic.ts";
import { type Context, Gpr, type IntegerSize, type Meaning, type Value } from "./context.ts";
import { arithmeticFlags, condition, flagsOfSub, setArithmeticFlags } from "./flags.ts";
import { fromI64, signExtend, truncate, word, zeroExtend } from "./words.ts";

const move: Meaning = (c) => c.write(0, c.read(1));

/** A condition's meaning by its code, for the families of sixteen. */
export function moveIf(code: number): Meaning {
  return (c) => {
    // The source is read, and a 32-bit destination's upper half cleared, whether or not the condition holds.
    const source = c.let(c.read(1));
    c.write(0, select(condition(c, code), source as I64, c.let(c.read(0)) as I64) as Value);
  };
}

export function setIf(code: number): Meaning {
  return (c) => c.write(0, condition(c, code));
}

/** SS:rSP of the frame grows downwards; `enter` with a nesting level is done in TypeScript. */
const leave: Meaning = (c) => {
  const frame = c.gpr(Gpr.RBP, c.stackSize);
  const stack = c.let(zeroExtend(c.stackSize, frame));
  const value = c.let(c.load(c.operandSize, c.linear(2, stack, c.operandSize, "read")));
  const after =
    c.stackSize === 8 ? i64.add(stack, i64.const(c.operandSize)) : i32.add(i32.wrap(stack), c32(c.operandSize));
  c.setGpr(Gpr.RSP, c.stackSize, truncate(c.stackSize, after));
  c.setGpr(Gpr.RBP, c.operandSize, value);
};

const all = Flag.CF | Flag.PF | Flag.AF | Flag.ZF | Flag.SF | Flag.OF;
const low8 = Flag.CF | Flag.PF | Flag.AF | Flag.ZF | Flag.SF;

export const data: Record<string, Meaning> = {
  mov: move,
  movzx: (c) => c.write(0, fromI64(sizeOf(c), zeroExtend(sizeOf(c, 1), c.read(1)))),
  movsx: (c) => c.write(0, fromI64(sizeOf(c), c.readExtended(1))),
  movsxd: (c) => c.write(0, fromI64(sizeOf(c), c.readExtended(1))),
  lea: (c) => c.write(0, fromI64(sizeOf(c), c.effectiveAddress(1))),

  xchg: (c) => {
    const b = c.let(c.read(1));
    let a: Value | undefined;
    c.modify(0, (old) => {
      a = c.let(old);
      return b;
    });
    c.write(1, a!);
  },

  cmpxchg: (c) => {
    const size = sizeOf(c);
    const expected = c.let(c.gpr(Gpr.RAX, size));
    const replacement = c.let(c.read(1));
    let old: Value | undefined;
    if (c.operands[0]!.kind === "mem") {
      c.modify(0, (value) => {
        old = c.let(value);
        // Memory is written in any case (SDM): with its own value when the comparison fails.
        return select(word(size).eq(old, expected), replacement as I64, old as I64) as Value;
      });
      c.code.if(word(size).ne(old!, expected), () => c.setGpr(Gpr.RAX, size, old!));
    } else {
      // Only one register is written, so only its upper half is cleared for 32 bits.
      old = c.let(c.read(0));
      c.code.if(
        word(size).eq(old, expected),
        () => c.write(0, replacement),
        () => c.setGpr(Gpr.RAX, size, old!),
      );
    }
    flagsOfSub(c, size, expected, old!, c.let(truncate(size, word(size).sub(expected, old!))));
  },

  cmpxchg8b: (c) => {
    const expected = pair(c, Gpr.RDX, Gpr.RAX);
    const replacement = pair(c, Gpr.RCX, Gpr.RBX);
    let old: I64 | undefined;
    c.modify(0, (value) => {
      old = c.let(value as I64);
      return select(i64.eq(old, expected), replacement, old);
    });
    const same = c.let(i64.eq(old!, expected));
    c.code.if(i32.eqz(same), () => {
      c.setGpr(Gpr.RAX, 4, i32.wrap(old!));
      c.setGpr(Gpr.RDX, 4, i32.wrap(i64.shr_u(old!, c64(32))));
    });
    setZero(c, same);
  },
  cmpxchg16b: (c) => {
    // WebAssembly has nothing atomic of 16 bytes.
    if (c.lock) return c.microcode();
    const at = c.linearAddress(0, "write");
    c.raiseIf(i32.and(i32.wrap(at), c32(15)), Vector.GP);
    const above = c.let(i64.add(at, c64(8))) as Local<"i64">;
    let low: I64 | undefined;
    // Aligned, it is in one page: once that is writable nothing faults.
    c.modifyAt(8, at, (value) => {
      low = c.let(value as I64);
      return low;
    });
    const high = c.let(c.load(8, above) as I64);
    const isLow = i64.eq(low!, c.gpr(Gpr.RAX, 8) as I64);
    const same = c.let(i32.and(isLow, i64.eq(high, c.gpr(Gpr.RDX, 8) as I64)));
    c.store(8, above, select(same, c.gpr(Gpr.RCX, 8) as I64, high));
    c.store(8, at, select(same, c.gpr(Gpr.RBX, 8) as I64, low!));
    c.code.if(i32.eqz(same), () => {
      c.setGpr(Gpr.RAX, 8, low!);
      c.setGpr(Gpr.RDX, 8, high);
    });
    setZero(c, same);
  },

  push: (c) => c.push(c.operandSize, c.let(pushed(c))),
  pop: (c) => {
    if (c.operands[0]!.kind !== "mem") return c.write(0, c.pop(c.operandSize));
    // The address is computed with the stack pointer after the pop, and a fault of the store leaves it unpopped.
    const stack = c.let(c.gpr(Gpr.RSP, c.stackSize));
    const value = c.let(c.pop(c.operandSize));
    const after = c.let(c.gpr(Gpr.RSP, c.stackSize));
    const address = c.linearAddress(0, "write");
    c.setGpr(Gpr.RSP, c.stackSize, stack);
    c.store(c.operandSize, address, value);
    c.setGpr(Gpr.RSP, c.stackSize, after);
  },
  leave,

  // CBW, CWDE, CDQE and CWD, CDQ, CQO, by the operand size.
  cbw: (c) => {
    const half = (c.operandSize / 2) as IntegerSize;
    c.setGpr(Gpr.RAX, c.operandSize, fromI64(c.operandSize, signExtend(half, c.gpr(Gpr.RAX, half))));
  },
  cwd: (c) => {
    const wide = signExtend(c.operandSize, c.gpr(Gpr.RAX, c.operandSize));
    c.setGpr(Gpr.RDX, c.operandSize, fromI64(c.operandSize, i64.shr_s(wide, i64.const(63))));
  },

  nop: () => {},
  pause: () => {},
  cld: (c) => c.setFlagRest(i32.and(c.flagRest(), c32(~Flag.DF))),
  std: (c) => c.setFlagRest(i32.or(c.flagRest(), c32(Flag.DF))),
  lahf: (c) => {
    const flags = i32.or(i32.and(arithmeticFlags(c), c32(low8)), c32(Flag.ONE));
    const ax = i32.and(c.gpr(Gpr.RAX, 2) as I32, c32(0xff));
    c.setGpr(Gpr.RAX, 2, i32.or(ax, i32.shl(flags, c32(8))));
  },
  sahf: (c) => {
    const ah = i32.shr_u(c.gpr(Gpr.RAX, 2) as I32, c32(8));
    const kept = i32.and(arithmeticFlags(c), c32(all & ~low8));
    setArithmeticFlags(c, i32.or(i32.and(ah, c32(low8)), kept));
  },
};

/** Sets ZF and leaves the other flags. */
function setZero(c: Context, zero: I32): void {
  const others = i32.and(arithmeticFlags(c), c32(~Flag.ZF));
  setArithmeticFlags(c, i32.or(others, i32.shl(zero, c32(6))));
}

/** Two registers' halves as one value. */
function pair(c: Context, high: number, low: number): I64 {
  const upper = i64.shl(i64.extend_i32_u(c.gpr(high, 4) as I32), c64(32));
  return c.let(i64.or(upper, i64.extend_i32_u(c.gpr(low, 4) as I32)));
}

/** What PUSH stores: immediates and segment selectors fill the operand size. */
function pushed(c: Context): Value {
  const shape = c.operands[0]!;
  const value = c.read(0);
  if (shape.size === c.operandSize) return value;
  return fromI64(c.operandSize, signExtend(shape.size as IntegerSize, value));
}
