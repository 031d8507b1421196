/** What the blocks of a region share: the locals that stand for the processor's state, and the ways out. */

import { Mode, State, Tlb } from "../cpu/layout.ts";
import { BlockHeader } from "../interpreter/record.ts";
import type { FloatLanes } from "../semantics/context.ts";
import type { Code, Label } from "../wasm/code.ts";
import { type I32, type I64, Local, type V128 } from "../wasm/expr.ts";
import { c32, c64, i32, i64 } from "../wasm/ops.ts";
import { v128 } from "../wasm/simd.ts";
import { FieldLocals } from "./field-locals.ts";
import { FloatGuards } from "./float-guards.ts";
import { type KnownFlags, LazyFlags } from "./lazy-flags.ts";

const GPRS = 16;
const VECTORS = 16;

/** Why a region is left, beside `Return`. */
export const Leave = {
  /** The interpreter goes on at the start of an instruction. */
  INTERPRET: -1,
  /** What the jump cache knows goes on. */
  ENTER: -2,
  /** The mode is another one by now. */
  ELSEWHERE: -3,
} as const;

/** What instructions of a region work on. */
export interface RegionUnits {
  /** Registers of SSE, or of AVX. */
  readonly hasVectors: boolean;
  /** Upper halves of ymm registers. */
  readonly hasAvx: boolean;
  readonly hasX87: boolean;
}

export class RegionState {
  readonly code: Code;
  readonly base: number;
  /** The virtual address from which the region's blocks have their distances. */
  readonly entryRip: Local<"i64">;
  readonly budget: Local<"i32">;
  /** `State.tlb`: known, where the mode says all, so that it is part of each address. */
  readonly lookasideBuffer: I32;
  /** Why the region is left, and at which address to go on. */
  readonly reason: Local<"i32">;
  readonly exitRip: Local<"i64">;
  readonly flags: LazyFlags;
  readonly fields: FieldLocals;
  readonly guards: FloatGuards;
  /** Of xmm registers, lanes that are neither denormal nor NaN where code is being written. */
  readonly regular = new Map<number, FloatLanes>();
  exit: Label | undefined;
  /** Goes on at `exitRip`, wherever that is. */
  lookup: Label | undefined;
  /** The number of the entry that the dispatcher goes to. */
  readonly next: Local<"i32">;
  /** Where instructions go that find that they are microcode's: one way out for all, as each has several ways to it. */
  microcode: Label | undefined;
  /** Where instructions go that the interpreter does from the start: those that miss the lookaside buffer or fault. */
  interpret: Label | undefined;
  /** The record of the instruction that goes there, and its block's distance. */
  readonly leftRecord: Local<"i32">;
  readonly leftBlock: Local<"i32">;
  readonly #gpr: readonly Local<"i64">[];
  readonly #used = new Set<number>();
  readonly #written = new Set<number>();
  readonly #vectors: readonly Local<"v128">[];
  readonly #usedVectors = new Set<number>();
  readonly #writtenVectors = new Set<number>();
  /** Upper halves of ymm registers. */
  readonly #uppers: readonly Local<"v128">[];
  readonly #usedUppers = new Set<number>();
  readonly #writtenUppers = new Set<number>();

  constructor(code: Code, base: number, mode: number, { hasVectors, hasAvx, hasX87 }: RegionUnits) {
    this.code = code;
    this.base = base;
    this.entryRip = code.local("i64");
    this.budget = code.local("i32");
    const bank = bankOf(mode);
    this.lookasideBuffer = bank === undefined ? code.local("i32") : c32(base + State.tlbs + bank * Tlb.bankSize);
    this.reason = code.local("i32");
    this.exitRip = code.local("i64");
    this.next = code.local("i32");
    this.leftRecord = code.local("i32");
    this.leftBlock = code.local("i32");
    this.flags = new LazyFlags(code);
    this.fields = new FieldLocals(code, hasX87);
    this.guards = new FloatGuards(code, base);
    // Of all registers, so that their locals outlive the instructions that first name them.
    this.#gpr = Array.from({ length: GPRS }, () => code.local("i64"));
    this.#vectors = Array.from({ length: hasVectors ? VECTORS : 0 }, () => code.local("v128"));
    this.#uppers = Array.from({ length: hasAvx ? VECTORS : 0 }, () => code.local("v128"));
  }

  gpr(register: number): Local<"i64"> {
    this.#used.add(register);
    return this.#gpr[register]!;
  }
  setGpr(register: number, value: I64): void {
    this.code.set(this.gpr(register), value);
    this.#written.add(register);
  }

  vector(register: number): Local<"v128"> {
    this.#usedVectors.add(register);
    return this.#vectors[register]!;
  }
  setVector(register: number, value: V128): void {
    this.code.set(this.vector(register), value);
    this.#writtenVectors.add(register);
    // A copy is as regular as what it is of.
    const from = this.#vectors.indexOf(value as Local<"v128">);
    const known = this.regular.get(from);
    if (known !== undefined) this.regular.set(register, known);
    else this.regular.delete(register);
  }

  /** See {@link Context.isRegular}. */
  isRegular(register: number, lanes: FloatLanes): boolean {
    const known = this.regular.get(register);
    return known === lanes || (known === "f64x2" && lanes === "f64") || (known === "f32x4" && lanes === "f32");
  }

  /** At the start of a block. `flags`: what is certain of them on the only way to it. */
  enterBlock(flags: KnownFlags): void {
    this.flags.enterBlock(flags);
    this.regular.clear();
    this.fields.enterBlock();
  }

  upper(register: number): Local<"v128"> {
    this.#usedUppers.add(register);
    return this.#uppers[register]!;
  }
  setUpper(register: number, value: V128): void {
    this.code.set(this.upper(register), value);
    this.#writtenUppers.add(register);
  }

  /** Loads what the region uses; written last, in front of all else. */
  load(): void {
    const { code } = this;
    code.set(this.exitRip, i64.load(this.#at(State.blockRip)));
    this.enter(code.parameters[0] as Local<"i32">, this.exitRip);
    code.set(this.budget, i32.load(this.#at(State.budget)));
    if (this.lookasideBuffer instanceof Local) code.set(this.lookasideBuffer, i32.load(this.#at(State.tlb)));
    for (const register of this.#used) code.set(this.#gpr[register]!, i64.load(this.#at(State.gpr + register * 8)));
    for (const register of this.#usedVectors) {
      code.set(this.#vectors[register]!, v128.load(this.#at(State.vector + register * 32)));
    }
    for (const register of this.#usedUppers) {
      code.set(this.#uppers[register]!, v128.load(this.#at(State.vector + register * 32 + 16)));
    }
    this.flags.load(this.base);
    this.fields.load(this.base);
    this.guards.load();
  }

  /** Stores what the region has changed. */
  store(): void {
    const { code } = this;
    code.store("i64", this.#at(State.blockRip), 0, this.exitRip);
    code.store("i32", this.#at(State.budget), 0, this.budget);
    for (const register of this.#written) {
      code.store("i64", this.#at(State.gpr + register * 8), 0, this.#gpr[register]!);
    }
    for (const register of this.#writtenVectors) {
      code.store("v128", this.#at(State.vector + register * 32), 0, this.#vectors[register]!);
    }
    for (const register of this.#writtenUppers) {
      code.store("v128", this.#at(State.vector + register * 32), 16, this.#uppers[register]!);
    }
    this.flags.store(this.base);
    this.fields.store(this.base);
  }

  /** Makes ready to go on at the block of a record, which this region is entered at. */
  enter(record: I32, rip: I64): void {
    const { code } = this;
    // Both in one load: the entry's number, and above it the distance.
    const place = code.let(i64.load(i32.add(record, c32(BlockHeader.entry))));
    code.set(this.entryRip, i64.sub(rip, i64.shr_s(place, c64(32))));
    code.set(this.next, i32.wrap(place));
    code.release(place);
  }

  /** Goes on at an address of run time. */
  lookUp(rip: I64): void {
    this.code.set(this.exitRip, rip);
    this.code.br(this.lookup!);
  }

  /** Goes to the way out. */
  leave(reason: number, rip: I64): void {
    this.code.set(this.reason, c32(reason));
    this.code.set(this.exitRip, rip);
    this.code.br(this.exit!);
  }

  #at(offset: number): I32 {
    return c32(this.base + offset);
  }
}

/** The bank of lookaside buffers that code of a mode goes by; undefined where RFLAGS.AC decides. */
function bankOf(mode: number): number | undefined {
  if (mode & Mode.USER) return Tlb.USER;
  return mode & Mode.NO_SMAP ? Tlb.SUPERVISOR_AC : undefined;
}
