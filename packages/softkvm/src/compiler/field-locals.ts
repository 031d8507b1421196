/**
 * Fields of the state that a region with x87 instructions keeps in locals: the words and the stack's top, which each such
 * instruction reads and writes, and where the last one was, which nothing reads before the region is left. Tags are kept
 * from the top on, so that pushes and pops shift them and do not ask where the top is; where a register lies is computed
 * once in a block.
 */

import { State } from "../cpu/layout.ts";
import { tagsByNumber, tagsFrom } from "../interpreter/record-x87.ts";
import type { Code } from "../wasm/code.ts";
import { ConstI32, type I32, type I64, type Local } from "../wasm/expr.ts";
import { c32, i32, i64 } from "../wasm/ops.ts";
import { StackKnowledge } from "../x87/quick/knowledge.ts";

const WORDS = [State.fcw, State.fsw, State.ftw, State.ftop];
const REGISTERS = 8;

export class FieldLocals {
  readonly knowledge = new StackKnowledge();
  readonly #code: Code;
  readonly #words: ReadonlyMap<number, Local<"i32">>;
  readonly #pointer: Local<"i64">;
  readonly #present: boolean;
  readonly #used = new Set<number>();
  readonly #written = new Set<number>();
  /** Addresses of registers, by their numbers from the top at the block's start on. */
  readonly #addresses: readonly Local<"i32">[];
  readonly #known = new Set<number>();
  /** What the top has moved by since. */
  #moved = 0;
  #depth = 0;

  /** Without `present`, all fields stay in memory. */
  constructor(code: Code, present: boolean) {
    this.#code = code;
    this.#present = present;
    this.#words = new Map(present ? WORDS.map((field) => [field, code.local("i32")]) : []);
    this.#pointer = code.local("i64");
    this.#addresses = Array.from({ length: present ? REGISTERS : 0 }, () => code.local("i32"));
  }

  /** At the start of a block, which may be reached in several ways. */
  enterBlock(): void {
    this.#forget();
    this.#depth = this.#code.depth;
  }

  #forget(): void {
    this.knowledge.forget();
    this.#known.clear();
    this.#moved = 0;
  }

  /** The local of a field, or undefined when it is in memory. */
  word(field: number): I32 | undefined {
    if (field === State.ftw && this.#present) return tagsByNumber(this.#word(State.ftop), this.tags());
    return this.#words.has(field) ? this.#word(field) : undefined;
  }

  #word(field: number): Local<"i32"> {
    this.#used.add(field);
    return this.#words.get(field)!;
  }

  /** From the top on. */
  tags(): I32 {
    this.#used.add(State.ftop);
    return this.#word(State.ftw);
  }

  setStack(by: number, tags: I32): void {
    const top = this.#word(State.ftop);
    this.#set(State.ftw, tags);
    if (by === 0) return;
    this.#set(State.ftop, i32.and(i32.add(top, c32(by)), c32(7)));
    this.#moved += by;
  }

  /** Where a register lies: its address in the state at `fpr`. */
  address(index: I32, fpr: number): I32 {
    const number = i32.and(i32.add(this.#word(State.ftop), index), c32(7));
    const address = i32.add(i32.shl(number, c32(4)), c32(fpr));
    if (!(index instanceof ConstI32)) return address;
    const key = (index.value + this.#moved) & 7;
    const local = this.#addresses[key]!;
    if (this.#known.has(key)) return local;
    // What is set under a condition is not certain behind it.
    if (this.#code.depth !== this.#depth) return address;
    this.#code.set(local, address);
    this.#known.add(key);
    return local;
  }

  /** Whether the field is here. */
  setWord(field: number, value: I32): boolean {
    if (!this.#words.has(field)) return false;
    if (field === State.ftop) {
      // The registers stay where they are.
      const tags = this.#code.let(tagsByNumber(this.#word(State.ftop), this.tags()));
      this.#set(field, value);
      this.#set(State.ftw, tagsFrom(this.#word(State.ftop), tags));
      this.#code.release(tags);
    } else if (field === State.ftw) {
      this.#set(field, tagsFrom(this.#word(State.ftop), value));
    } else this.#set(field, value);
    if (field === State.ftop || field === State.ftw) this.#forget();
    return true;
  }

  #set(field: number, value: I32): void {
    this.#written.add(field);
    this.#code.set(this.#word(field), value);
  }

  /** Where the last instruction was, or undefined when that is in memory. */
  pointer(): I64 | undefined {
    if (!this.#present) return undefined;
    this.#used.add(State.fip);
    return this.#pointer;
  }

  /** The last instruction was there. Returns whether that is kept here. */
  setPointer(rip: I64): boolean {
    if (!this.#present) return false;
    this.#used.add(State.fip);
    this.#written.add(State.fip);
    this.#code.set(this.#pointer, rip);
    return true;
  }

  load(base: number): void {
    if (!this.#present) return;
    if (this.#used.has(State.fip)) this.#code.set(this.#pointer, i64.load(c32(base + State.fip)));
    for (const [field, local] of this.#words) {
      if (this.#used.has(field)) this.#code.set(local, i32.load(c32(base + field)));
    }
    const [top, tags] = [this.#words.get(State.ftop)!, this.#words.get(State.ftw)!];
    if (this.#used.has(State.ftw)) this.#code.set(tags, tagsFrom(top, tags));
  }

  store(base: number): void {
    const code = this.#code;
    if (this.#written.has(State.fip)) code.store("i64", c32(base + State.fip), 0, this.#pointer);
    for (const [field, local] of this.#words) {
      if (!this.#written.has(field)) continue;
      const value = field === State.ftw ? tagsByNumber(this.#words.get(State.ftop)!, local) : local;
      code.store("i32", c32(base + field), 0, value);
    }
  }
}
