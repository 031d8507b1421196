/** Near jumps, calls and returns, and loops: Intel SDM vol. 2. Far ones are in TypeScript (system/far.ts). */

import { Vector } from "../cpu/layout.ts";
import type { I64 } from "../wasm/expr.ts";
import { c32, c64, i32, i64 } from "../wasm/ops.ts";
import { type Context, Gpr, type IntegerSize, type Meaning, type Value } from "./context.ts";
import { condition } from "./flags.ts";
import { fromI64, low32, truncate, word, zeroExtend } from "./words.ts";

const SS = 2;

export function branchIf(code: number): Meaning {
  return (c) => c.branchRelative(condition(c, code));
}

const isRelative = (c: Context) => c.operands[0]!.kind === "rel";

/** LOOP counts rCX down by its address size; `also` is what else has to hold. */
function loop(also?: number): Meaning {
  return (c) => {
    const size = c.addressSize;
    const w = word(size);
    const counter = c.let(truncate(size, w.sub(c.gpr(Gpr.RCX, size), w.const(1))));
    const more = w.ne(counter, w.const(0));
    const taken = c.let(also === undefined ? more : i32.and(more, condition(c, also)));
    c.setGpr(Gpr.RCX, size, counter);
    c.branchRelative(taken);
  };
}

const returnNear: Meaning = (c) => {
  const size = c.operandSize;
  const stack = c.let(zeroExtend(c.stackSize, c.gpr(Gpr.RSP, c.stackSize)));
  const target = c.let(c.load(size, c.linear(SS, stack, size, "read")));
  requireCanonical(c, zeroExtend(size, target));
  const popped = c.let(fromI64(c.stackSize, i64.add(stack, c64(size))));
  if (c.operands.length === 0) c.setGpr(Gpr.RSP, c.stackSize, popped);
  else {
    const extra = i32.and(low32(c.read(0)), c32(0xffff));
    const by = (c.stackSize === 8 ? i64.extend_i32_u(extra) : extra) as Value;
    c.setGpr(Gpr.RSP, c.stackSize, truncate(c.stackSize, word(c.stackSize).add(popped, by)));
  }
  c.jump(zeroExtend(size, target));
};

/** Intel's processors check a near target before they change anything; AMD's fault when they fetch there. */
function requireCanonical(c: Context, target: I64): void {
  if (c.bits !== 64 || c.operandSize !== 8) return;
  const canonical = i64.shr_s(i64.shl(target, c64(16)), c64(16));
  c.raiseIf(i64.ne(canonical, target), Vector.GP);
}

export const branches: Record<string, Meaning> = {
  jmp: (c) => {
    if (isRelative(c)) c.jumpRelative();
    else {
      const to = c.let(target(c));
      requireCanonical(c, to);
      c.jump(to);
    }
  },
  call: (c) => {
    const size = c.operandSize;
    if (isRelative(c)) {
      c.push(size, fromI64(size, c.nextRip()));
      c.jumpRelative();
      return;
    }
    const to = c.let(target(c));
    // Intel's processors have written the return address when they find that the target is not canonical.
    const below = c.let(fromI64(c.stackSize, i64.sub(zeroExtend(c.stackSize, c.gpr(Gpr.RSP, c.stackSize)), c64(size))));
    c.store(size, c.linear(SS, zeroExtend(c.stackSize, below), size, "write"), fromI64(size, c.nextRip()));
    requireCanonical(c, to);
    c.setGpr(Gpr.RSP, c.stackSize, below);
    c.jump(to);
  },
  ret: returnNear,
  loop: loop(),
  loope: loop(4),
  loopne: loop(5),
  jcxz: (c) => c.branchRelative(word(c.addressSize).eqz(c.gpr(Gpr.RCX, c.addressSize))),
};

/** An indirect target: register or memory, of operand size. */
function target(c: Context): I64 {
  return zeroExtend(c.operands[0]!.size as IntegerSize, c.read(0));
}
