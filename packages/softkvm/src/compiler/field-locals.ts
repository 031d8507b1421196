/**
 * Fields of the state that a region with x87 instructions keeps in locals: the words and the stack's top, which each such
 * instruction reads and writes, and where the last one was, which nothing reads before the region is left.
 */

import { State } from "../cpu/layout.ts";
import type { Code } from "../wasm/code.ts";
import type { I32, I64, Local } from "../wasm/expr.ts";
import { c32, i32, i64 } from "../wasm/ops.ts";

const WORDS = [State.fcw, State.fsw, State.ftw, State.ftop];
const POINTERS = [State.fip];

export class FieldLocals {
  readonly #code: Code;
  readonly #words: ReadonlyMap<number, Local<"i32">>;
  readonly #pointers: ReadonlyMap<number, Local<"i64">>;
  readonly #used = new Set<number>();
  readonly #written = new Set<number>();

  /** Without `present`, all fields stay in memory. */
  constructor(code: Code, present: boolean) {
    this.#code = code;
    this.#words = new Map(present ? WORDS.map((field) => [field, code.local("i32")]) : []);
    this.#pointers = new Map(present ? POINTERS.map((field) => [field, code.local("i64")]) : []);
  }

  /** The local of a field, or undefined when it is in memory. */
  word(field: number): Local<"i32"> | undefined {
    this.#used.add(field);
    return this.#words.get(field);
  }
  pointer(field: number): Local<"i64"> | undefined {
    this.#used.add(field);
    return this.#pointers.get(field);
  }

  /** Whether the field is here. */
  setWord(field: number, value: I32): boolean {
    const local = this.word(field);
    if (local === undefined) return false;
    this.#written.add(field);
    this.#code.set(local, value);
    return true;
  }
  setPointer(field: number, value: I64): boolean {
    const local = this.pointer(field);
    if (local === undefined) return false;
    this.#written.add(field);
    this.#code.set(local, value);
    return true;
  }

  load(base: number): void {
    for (const [field, local] of this.#words) {
      if (this.#used.has(field)) this.#code.set(local, i32.load(c32(base + field)));
    }
    for (const [field, local] of this.#pointers) {
      if (this.#used.has(field)) this.#code.set(local, i64.load(c32(base + field)));
    }
  }

  store(base: number): void {
    for (const [field, local] of this.#words) {
      if (this.#written.has(field)) this.#code.store("i32", c32(base + field), 0, local);
    }
    for (const [field, local] of this.#pointers) {
      if (this.#written.has(field)) this.#code.store("i64", c32(base + field), 0, local);
    }
  }
}
