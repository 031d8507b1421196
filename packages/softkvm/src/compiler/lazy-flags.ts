/**
 * The flags of a region. What an addition or subtraction leaves is kept as its operands; the result and the carries that the
 * flags follow from are made of these only where something reads them: mostly nowhere, as conditions compare the
 * operands, and on the way out of the region, where all paths meet.
 *
 * Flags are alive wherever the region may be left, so that each local here is one that every jump moves: there are three.
 */

import { Aux, State } from "../cpu/layout.ts";
import type { Comparison } from "../semantics/context.ts";
import { fromI64, signExtend, zeroExtend } from "../semantics/words.ts";
import type { Code } from "../wasm/code.ts";
import { ConstI32, type I32, type I64, type Local } from "../wasm/expr.ts";
import { c32, c64, choose, i32, i64 } from "../wasm/ops.ts";

/** What the flags follow from, as a number: 0 for result and aux, else these bits and what to shift carries left by. */
const Kind = { AUX: 0, LAZY: 0x80, SUB: 0x100 } as const;

/** What is certain of the flags at some place. */
export type KnownFlags = Known | undefined;

type Known =
  | { readonly kind: "aux"; readonly aux: I32 }
  | { readonly kind: "comparison"; readonly of: Comparison; readonly number: ConstI32 };

export class LazyFlags {
  readonly #code: Code;
  /** The result as in `State.flagResult` and `State.flagAux`, or operands with zeros above their size. */
  readonly #a: Local<"i64">;
  readonly #b: Local<"i64">;
  readonly #kind: Local<"i32">;
  /** The result of operands, for as long as these are known. */
  readonly #result: Local<"i64">;
  /** What is certain where code is being written. */
  #known: Known | undefined;
  #depth = 0;
  #used = false;
  #written = false;

  constructor(code: Code) {
    this.#code = code;
    this.#a = code.local("i64");
    this.#b = code.local("i64");
    this.#kind = code.local("i32");
    this.#result = code.local("i64");
  }

  /** At the start of a block. `known`: of the only way to it. */
  enterBlock(known: KnownFlags): void {
    this.#known = known;
    this.#depth = this.#code.depth;
  }

  get known(): KnownFlags {
    return this.#known;
  }

  set(result: I64, aux: I32): void {
    const code = this.#code;
    this.#written = true;
    // Made of the old flags, maybe.
    code.set(this.#b, i64.extend_i32_u(aux));
    code.set(this.#a, result);
    code.set(this.#kind, c32(Kind.AUX));
    this.#learn({ kind: "aux", aux: aux instanceof ConstI32 ? aux : i32.wrap(this.#b) });
  }

  setOf({ operation, size, a, b, result }: Comparison): void {
    const code = this.#code;
    this.#written = true;
    code.set(this.#a, zeroExtend(size, a));
    code.set(this.#b, zeroExtend(size, b));
    code.set(this.#result, signExtend(size, result));
    const number = c32(Kind.LAZY | (operation === "sub" ? Kind.SUB : 0) | (64 - size * 8));
    code.set(this.#kind, number);
    const value = (local: I64) => (size === 8 ? local : i32.wrap(local));
    const of = { operation, size, a: value(this.#a), b: value(this.#b), result: fromI64(size, this.#result) };
    this.#learn({ kind: "comparison", of, number });
  }

  get compared(): Comparison | undefined {
    return this.#known?.kind === "comparison" ? this.#known.of : undefined;
  }

  /** Sign-extended, as in `State.flagResult`. */
  result(): I64 {
    this.#used = true;
    if (this.#known?.kind === "aux") return this.#a;
    if (this.#known !== undefined) return this.#result;
    const sum = this.#sumOf(this.#kind);
    const shift = i64.extend_i32_u(this.#kind);
    return choose(this.#kind, i64.shr_s(i64.shl(sum, shift), shift), this.#a);
  }

  aux(): I32 {
    this.#used = true;
    if (this.#known?.kind === "aux") return this.#known.aux;
    if (this.#known !== undefined) return this.#auxOf(this.#known.number);
    return choose(this.#kind, this.#auxOf(this.#kind), i32.wrap(this.#b));
  }

  load(base: number): void {
    if (!this.#used && !this.#written) return;
    this.#code.set(this.#a, i64.load(c32(base + State.flagResult)));
    this.#code.set(this.#b, i64.load32_u(c32(base + State.flagAux)));
    this.#code.set(this.#kind, c32(Kind.AUX));
  }

  store(base: number): void {
    if (!this.#written) return;
    this.#known = undefined;
    this.#code.store("i64", c32(base + State.flagResult), 0, this.result());
    this.#code.store("i32", c32(base + State.flagAux), 0, this.aux());
  }

  /** What is set under a condition is not certain behind it. */
  #learn(known: Known): void {
    this.#known = this.#code.depth === this.#depth ? known : undefined;
  }

  /** As semantics/flags.ts makes it of each size and operation, for all of them alike. */
  #auxOf(kind: I32): I32 {
    // All ones for a subtraction: it borrows where an addition of the operand's complement does not carry.
    const isSub = subtracts(kind);
    const a = i64.xor(this.#a, isSub);
    const result = i64.xor(this.#sumOf(kind), i64.xor(isSub, c64(-1)));
    const carries = i64.or(i64.and(a, this.#b), i64.and(i64.or(a, this.#b), result));
    // Shifts go by the count's lower six bits.
    const top = i32.wrap(i64.shr_u(i64.shl(carries, i64.extend_i32_u(kind)), c64(32)));
    return i32.or(i32.and(top, c32(Aux.CARRY | Aux.PARTIAL)), i32.and(i32.wrap(carries), c32(Aux.ADJUST)));
  }

  /** The result of what was added or subtracted, with anything above its size. */
  #sumOf(kind: I32): I64 {
    const isSub = subtracts(kind);
    return i64.add(this.#a, i64.sub(i64.xor(this.#b, isSub), isSub));
  }
}

/** All ones for a subtraction, else 0. */
function subtracts(kind: I32): I64 {
  return i64.extend_i32_s(i32.shr_s(i32.shl(kind, c32(31 - Math.log2(Kind.SUB))), c32(31)));
}
