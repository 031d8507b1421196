/** The register stack as emitted code reaches it. */

import { State } from "../../cpu/layout.ts";
import type { Context } from "../../semantics/context.ts";
import type { I32, I64, Local } from "../../wasm/expr.ts";
import { c32, i32, i64 } from "../../wasm/ops.ts";
import { Status } from "../layout.ts";
import type { X87Function } from "./functions.ts";
import { HIGH } from "./value.ts";

/** The register above the top, as a bit of the tags from the top on. */
const ABOVE = 0x80;

/**
 * One instruction's use of the unit. It is begun where nothing is pending, the registers that are read are not empty and
 * those that are pushed to are; anything else is left to microcode, as is whatever the functions of this folder refuse.
 * Only then does anything change.
 */
export class Stack {
  readonly #c: Context;
  readonly #top: Local<"i32">;
  readonly #tags: Local<"i32">;
  readonly #status: Local<"i32">;

  /** `reads`: numbers of registers from the top, as constants or values. `pushes`: whether the one above has to be empty. */
  constructor(c: Context, reads: readonly (number | I32)[], pushes = false) {
    this.#c = c;
    const { code } = c;
    this.#top = code.let(c.state32(State.ftop));
    this.#tags = code.let(c.state32(State.ftw));
    this.#status = code.let(c.state32(State.fsw));
    let used: I32 = c32(0);
    for (const read of reads) used = i32.or(used, i32.shl(c32(1), typeof read === "number" ? c32(read) : read));
    const empty = pushes ? ABOVE : 0;
    // From the top on.
    const turned = code.let(i32.shr_u(i32.mul(this.#tags, c32(0x101)), this.#top));
    const wrong = i32.or(i32.and(i32.xor(turned, c32(-1)), used), i32.and(turned, c32(empty)));
    c.microcodeIf(i32.or(wrong, i32.and(this.#status, c32(Status.SUMMARY))));
  }

  get control(): I32 {
    return this.#c.state32(State.fcw);
  }

  /** Where a register lies. */
  address(index: number | I32): I32 {
    return this.#c.let(i32.add(i32.shl(this.#number(index), c32(4)), i32.add(this.#c.stateAddress(), c32(State.fpr))));
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
    this.#setTags(i32.or(this.#tags, this.#bit(index)));
  }

  /** Marks it as empty. */
  free(index: number | I32): void {
    this.#setTags(i32.and(this.#tags, i32.xor(this.#bit(index), c32(-1))));
  }

  /** Makes the register above the top the top. */
  push(): void {
    this.fill(-1);
    this.turn(-1);
  }

  pop(count = 1): void {
    for (let index = 0; index < count; index++) this.free(index);
    if (count > 0) this.turn(count);
  }

  turn(by: number): void {
    this.#c.setState32(State.ftop, this.#number(by));
  }

  /** The last thing: flags and C1 of `status`, and where the instruction was. `conditions` replaces C0, C2 and C3, too. */
  finish(status: I32 = c32(0), conditions?: I32): void {
    const kept = i32.and(this.#status, c32(~(conditions === undefined ? Status.C1 : Status.CONDITIONS)));
    const flags = i32.or(kept, status);
    this.#c.setState32(State.fsw, conditions === undefined ? flags : i32.or(flags, conditions));
    this.finishQuietly();
  }

  /** The same for instructions that leave the status word alone. */
  finishQuietly(): void {
    this.#c.setState64(State.fip, this.#c.instructionRip());
  }

  /** The status word with the top in it. */
  get statusWord(): I32 {
    return i32.or(this.#status, i32.shl(this.#top, c32(Status.TOP_SHIFT)));
  }

  #setTags(tags: I32): void {
    this.#c.code.set(this.#tags, tags);
    this.#c.setState32(State.ftw, this.#tags);
  }

  #number(index: number | I32): I32 {
    if (index === 0) return this.#top;
    return i32.and(i32.add(this.#top, typeof index === "number" ? c32(index) : index), c32(7));
  }

  #bit(index: number | I32): I32 {
    return i32.shl(c32(1), this.#number(index));
  }
}
