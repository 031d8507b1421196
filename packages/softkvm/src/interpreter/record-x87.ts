/** The interpreter's view of an instruction: the stack of x87 registers. */

import { State } from "../cpu/layout.ts";
import type { I32 } from "../wasm/expr.ts";
import { c32, callIndirect, i32 } from "../wasm/ops.ts";
import { type X87Function, x87FunctionNumber } from "../x87/quick/functions.ts";
import { StackKnowledge } from "../x87/quick/knowledge.ts";
import { RecordVectors } from "./record-vectors.ts";

export abstract class RecordX87 extends RecordVectors {
  x87Function(name: X87Function, a: I32, b: I32, to: I32, control: I32): I32 {
    const { x87FunctionType, x87Functions } = this.outside;
    return callIndirect("i32", x87FunctionType, c32(x87Functions + x87FunctionNumber(name)), a, b, to, control);
  }

  stackRegister(index: number): I32 {
    return i32.shr_u(i32.sub(this.register(index), this.address(State.fpr)), c32(4));
  }

  stackTags(): I32 {
    return tagsFrom(this.state32(State.ftop), this.state32(State.ftw));
  }

  setStack(by: number, tags: I32): void {
    const top = this.let(i32.and(i32.add(this.state32(State.ftop), c32(by)), c32(7)));
    const turned = this.let(tags);
    this.setState32(State.ftw, tagsByNumber(top, turned));
    this.setState32(State.ftop, top);
  }

  stackAddress(index: I32): I32 {
    const number = i32.and(i32.add(this.state32(State.ftop), index), c32(7));
    return this.let(i32.add(i32.shl(number, c32(4)), this.address(State.fpr)));
  }

  stackKnowledge(): StackKnowledge {
    return new StackKnowledge();
  }
}

/** Tags by the registers' numbers, as from the top on; `top` is used more than once. */
export function tagsFrom(top: I32, tags: I32): I32 {
  return i32.and(i32.shr_u(i32.mul(tags, c32(0x101)), top), c32(0xff));
}
/** The other way. */
export function tagsByNumber(top: I32, tags: I32): I32 {
  const twice = i32.mul(tags, c32(0x101));
  return i32.and(i32.shr_u(i32.shl(twice, top), c32(8)), c32(0xff));
}
