/** Near jumps, calls and returns, and loops: Intel SDM vol. 2. Far ones are in TypeScript (system/far.ts). */

import type { I64 } from "../wasm/expr.ts";
import { c32, i32, i64 } from "../wasm/ops.ts";
import { type Context, Gpr, type IntegerSize, type Meaning, type Value } from "./context.ts";
import { condition } from "./flags.ts";
import { fromI64, low32, truncate, word, zeroExtend } from "./words.ts";

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
  const target = c.let(c.pop(size));
  if (c.operands.length > 0) {
    const extra = i32.and(low32(c.read(0)), c32(0xffff));
    const w = word(c.stackSize);
    const by = (c.stackSize === 8 ? i64.extend_i32_u(extra) : extra) as Value;
    c.setGpr(Gpr.RSP, c.stackSize, truncate(c.stackSize, w.add(c.gpr(Gpr.RSP, c.stackSize), by)));
  }
  c.jump(zeroExtend(size, target));
};

export const branches: Record<string, Meaning> = {
  jmp: (c) => {
    if (isRelative(c)) c.jumpRelative();
    else c.jump(target(c));
  },
  call: (c) => {
    const size = c.operandSize;
    if (isRelative(c)) {
      c.push(size, fromI64(size, c.nextRip()));
      c.jumpRelative();
      return;
    }
    const to = c.let(target(c));
    c.push(size, fromI64(size, c.nextRip()));
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
