/** The register stack as emitted code reaches it. */

import { State } from "../../cpu/layout.ts";
import type { Context } from "../../semantics/context.ts";
import { ConstI32, type I32, type I64 } from "../../wasm/expr.ts";
import { c32, i32, i64 } from "../../wasm/ops.ts";
import { Status } from "../layout.ts";
import type { X87Function } from "./functions.ts";
import type { StackKnowledge } from "./knowledge.ts";
import { HIGH } from "./value.ts";

/** The register above the top. */
const ABOVE = 7;

/**
 * One instruction's use of the unit. It is begun where nothing is pending, the registers that are read are not empty and
 * those that are pushed to are; anything else is left to microcode, as is whatever the functions of this folder refuse.
 * Only then does anything change.
 */
export class Stack {
  readonly #c: Context;
  readonly #knowledge: StackKnowledge;

  /** `reads`: numbers of registers from the top, as constants or values. `pushes`: whether the one above has to be empty. */
  constructor(c: Context, reads: readonly (number | I32)[], pushes = false) {
    this.#c = c;
    const knowledge = c.stackKnowledge();
    this.#knowledge = knowledge;
    let wrong: I32 = c32(0);
    const add = (more: I32) => {
      wrong = wrong instanceof ConstI32 ? more : i32.or(wrong, more);
    };
    let used: I32 = c32(0);
    for (const read of reads) {
      const number = numberOf(read);
      if (number !== undefined && knowledge.isFull(number)) continue;
      used = i32.or(used, bit(read));
      if (number !== undefined) knowledge.learn(number, true);
    }
    if (!(used instanceof ConstI32 && used.value === 0)) add(i32.and(i32.xor(c.stackTags(), c32(-1)), used));
    if (pushes && !knowledge.isEmpty(ABOVE)) add(i32.and(c.stackTags(), bit(ABOVE)));
    if (!knowledge.settled) add(i32.and(c.state32(State.fsw), c32(Status.SUMMARY)));
    knowledge.settled = true;
    c.microcodeIf(wrong);
  }

  get control(): I32 {
    return this.#c.state32(State.fcw);
  }

  /** Where a register lies. */
  address(index: number | I32): I32 {
    return this.#c.stackAddress(typeof index === "number" ? c32(index) : index);
  }

  /** Room for a value that is in no register. */
  get room(): I32 {
    return i32.add(this.#c.stateAddress(), c32(State.transfer));
  }

  /** What a function of this folder makes of values at addresses, put at `to`; gives what to add to the status word. */
  compute(name: X87Function, a: I32, b: I32, to: I32, control: I32 = this.control): I32 {
    const c = this.#c;
    const status = c.let(c.x87Function(name, a, b, to, control));
    c.microcodeIf(i32.lt_s(status, c32(0)));
    return status;
  }

  copy(from: I32, to: I32): void {
    this.writeParts(to, this.significand(from), this.high(from));
  }

  /** Writes from parts. */
  writeParts(to: I32, significand: I64, high: I32): void {
    this.#c.code.store("i64", to, 0, significand);
    this.#c.code.store("i32", to, HIGH, high);
  }

  /** Writes sign and exponent of a register, and leaves the rest. */
  setHigh(index: number | I32, high: I32): void {
    this.#c.code.store("i32", this.address(index), HIGH, high);
  }

  significand(address: I32): I64 {
    return i64.load(address);
  }
  /** The sign and exponent of a register, with nothing above. */
  high(address: I32): I32 {
    return i32.load16_u(address, HIGH);
  }

  /** Marks a register as not empty. */
  fill(index: number | I32): void {
    this.#c.setStack(0, i32.or(this.#c.stackTags(), bit(index)));
    this.#learn(index, true);
  }

  /** Marks it as empty. */
  free(index: number | I32): void {
    this.#c.setStack(0, i32.and(this.#c.stackTags(), i32.xor(bit(index), c32(-1))));
    this.#learn(index, false);
  }

  /** Makes the register above the top the top. */
  push(): void {
    this.#c.setStack(-1, i32.and(i32.or(i32.shl(this.#c.stackTags(), c32(1)), c32(1)), c32(0xff)));
    this.#knowledge.turn(-1);
    this.#knowledge.learn(0, true);
  }

  pop(count = 1): void {
    if (count === 0) return;
    this.#c.setStack(count, i32.shr_u(this.#c.stackTags(), c32(count)));
    for (let index = 0; index < count; index++) this.#knowledge.learn(index, false);
    this.#knowledge.turn(count);
  }

  turn(by: 1 | -1): void {
    const twice = i32.mul(this.#c.stackTags(), c32(0x101));
    this.#c.setStack(by, i32.and(i32.shr_u(twice, c32(by & 7)), c32(0xff)));
    this.#knowledge.turn(by);
  }

  /** The last thing: flags and C1 of `status`, and where the instruction was. `conditions` replaces C0, C2 and C3, too. */
  finish(status: I32 = c32(0), conditions?: I32): void {
    const kept = i32.and(this.#c.state32(State.fsw), c32(~(conditions === undefined ? Status.C1 : Status.CONDITIONS)));
    const flags = i32.or(kept, status);
    this.#c.setState32(State.fsw, conditions === undefined ? flags : i32.or(flags, conditions));
    this.finishQuietly();
  }

  /** The same for instructions that leave the status word alone. */
  finishQuietly(): void {
    this.#c.setState64(State.fip, this.#c.instructionRip());
  }

  #learn(index: number | I32, inUse: boolean): void {
    const number = numberOf(index);
    if (number !== undefined) this.#knowledge.learn(number, inUse);
  }
}

/** A register's number, if it is known. */
function numberOf(index: number | I32): number | undefined {
  if (typeof index === "number") return index;
  return index instanceof ConstI32 ? index.value : undefined;
}

function bit(index: number | I32): I32 {
  return i32.shl(c32(1), typeof index === "number" ? c32(index) : index);
}
