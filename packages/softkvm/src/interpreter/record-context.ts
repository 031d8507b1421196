/**
 * The interpreter's view of an instruction: operands come from the record that the handler is given, registers and flags
 * are in the vCPU's state in memory.
 */

import { Seg, SegmentRange, State, Tlb, Vector } from "../cpu/layout.ts";
import { AccessKind } from "../mmu/access.ts";
import type {
  Access,
  Alignment,
  Comparison,
  Context,
  FloatLanes,
  IntegerSize,
  OperandShape,
  Value,
  VectorSize,
  Wide,
} from "../semantics/context.ts";
import type { Unit } from "../semantics/sse/availability.ts";
import { type FloatGuard, guardConstants } from "../semantics/sse/checked.ts";
import { type FloatSize, inexactIsQuiet } from "../semantics/sse/lanes.ts";
import { UnitOutcome } from "../semantics/sse/unit-function.ts";
import { fromI64, signExtend, zeroExtend } from "../semantics/words.ts";
import { type VectorFunction, vectorFunctionNumber } from "../vector-unit/functions.ts";
import type { Code, StoreKind } from "../wasm/code.ts";
import {
  ConstI32,
  ConstI64,
  type Expr,
  type F32,
  type F64,
  type I32,
  type I64,
  Local,
  type V128,
} from "../wasm/expr.ts";
import { c32, c64, call, callIndirect, compareExchange, f32, f64, i32, i64 } from "../wasm/ops.ts";
import { i32x4, splat, v128 } from "../wasm/simd.ts";
import { type X87Function, x87FunctionNumber } from "../x87/quick/functions.ts";
import { StackKnowledge } from "../x87/quick/knowledge.ts";
import { Record, Return } from "./record.ts";
import type { Shape } from "./shape.ts";

/** Functions outside the handler, by their indexes in its module. */
export interface Outside {
  /**
   * (linear address, size, `AccessKind`) → 0 with the value in `State.transfer`, else a fault or an exit. To TypeScript the
   * address goes on as a float, because JavaScript would get a bigint for an i64, at ten times the cost.
   */
  readonly load: number;
  /** The same; the value is in `State.transfer`. */
  readonly store: number;
  /** A handler that goes on from an instruction with whose record a fault or an exit is recorded. */
  readonly abandoned: number;
  /** (segment, is write): raises the fault of an offset beyond the segment. */
  readonly segmentFault: number;
  /**
   * (operation, argument) → whether it faulted; operands are the two halves of `State.transfer`, the result is its first:
   * `VectorUnit.run`.
   */
  readonly vectorUnit: number;
  /** The type of `VectorFunction`s, and the slot of the first. */
  readonly vectorFunctionType: number;
  readonly vectorFunctions: number;
  /** The type of `X87Function`s, and the slot of the first. */
  readonly x87FunctionType: number;
  readonly x87Functions: number;
  /** Goes on at `State.blockRip`: a handler without parameters. */
  readonly lookup: number;
  /** The type of handlers. */
  readonly handlerType: number;
}

/** The host address that stands for "by the slow path". */
const SLOW = c32(-1);
/** A chain field that says: look the target up every time, it is in another page. */
export const CHAIN_LOOKUP = 1;

export const loads = {
  1: i32.load8_u,
  2: i32.load16_u,
  4: i32.load,
  8: i64.load,
} as const;
export const vectorLoads: { readonly [size in VectorSize]: (address: I32) => V128 } = {
  1: (address) => i32x4.replace_lane(splat(4, 0), 0, i32.load8_u(address)),
  2: (address) => i32x4.replace_lane(splat(4, 0), 0, i32.load16_u(address)),
  4: v128.load32_zero,
  8: v128.load64_zero,
  16: v128.load,
};
export const storeKinds: { readonly [size in IntegerSize]: StoreKind } = {
  1: "i32_8",
  2: "i32_16",
  4: "i32",
  8: "i64",
};

export class RecordContext implements Context {
  readonly code: Code;
  readonly operands: readonly OperandShape[];
  readonly operandSize: 2 | 4 | 8;
  readonly addressSize: 2 | 4 | 8;
  readonly stackSize: 2 | 4 | 8;
  readonly bits: 16 | 32 | 64;
  readonly lock: boolean;
  readonly rep: number;
  readonly missing: Unit | undefined;
  protected readonly shape: Shape;
  protected readonly base: number;
  protected readonly outside: Outside;
  protected readonly record: I32;
  /** Locals that are set once: using them again needs no copy. */
  protected readonly constant = new Set<Expr>();
  /** Linear addresses by way of SS, whose faults are #SS. */
  protected readonly onStack = new Set<Expr>();
  protected ended = false;

  /** `record`: where the instruction's record is; by default what the handler is given. */
  constructor(code: Code, shape: Shape, base: number, outside: Outside, record = code.parameters[0] as I32) {
    this.code = code;
    this.shape = shape;
    this.base = base;
    this.outside = outside;
    this.record = record;
    this.operands = shape.operands;
    this.operandSize = shape.operandSize;
    this.addressSize = shape.addressSize;
    this.stackSize = shape.stackSize;
    this.bits = shape.bits;
    this.lock = shape.lock;
    this.rep = shape.rep;
    this.missing = shape.missing;
  }

  /** Goes on to the next record, unless the instruction has ended the block. */
  finish(): void {
    if (this.ended) return;
    const next = this.let(i32.add(this.record, c32(Record.size)));
    this.enter(next);
  }

  // Operands.

  read(index: number): Value {
    const { kind, size } = this.operands[index]!;
    switch (kind) {
      case "gpr":
        return loads[size as IntegerSize](this.register(index));
      case "mem":
        return this.load(size as IntegerSize, this.linearAddress(index, "read"));
      case "imm":
        return fromI64(size as IntegerSize, i64.load(this.record, Record.immediate));
      default:
        throw new Error(`a ${kind} operand has no integer value`);
    }
  }

  write(index: number, value: Value): void {
    const { kind, size } = this.operands[index]!;
    if (kind === "mem") {
      const now = this.let(value);
      this.store(size as IntegerSize, this.linearAddress(index, "write"), now);
      return;
    }
    this.storeRegister(this.register(index), 0, size as IntegerSize, value);
  }

  modify(index: number, change: (old: Value) => Value): void {
    const { kind, size } = this.operands[index]!;
    if (kind === "mem") {
      this.modifyAt(size as IntegerSize, this.linearAddress(index, "write"), change);
      return;
    }
    this.write(index, change(this.read(index)));
  }

  readVector(index: number, alignment: Alignment = "aligned"): V128 {
    const { kind, size } = this.operands[index]!;
    if (kind !== "mem") return vectorLoads[Math.min(size, 16) as VectorSize](this.register(index));
    const linear = this.linearAddress(index, "read");
    if (size === 16 && alignment === "aligned") this.checkAlignment(linear);
    return this.loadVector(size as VectorSize, linear);
  }

  writeVector(index: number, value: V128, alignment: Alignment = "aligned"): void {
    const { kind, size } = this.operands[index]!;
    if (kind !== "mem") {
      storeLow(this.code, size as VectorSize, this.register(index), value);
      // What holds an mm register reads as a NaN or infinity of x87 (Intel SDM vol. 1, 9.6.2).
      if (kind === "mm") this.code.store("i32_16", this.register(index), 8, c32(0xffff));
      return;
    }
    const now = this.let(value);
    const linear = this.linearAddress(index, "write");
    if (size === 16 && alignment === "aligned") this.checkAlignment(linear);
    this.storeVector(size as VectorSize, linear, now);
  }

  readFloat(index: number, size: FloatSize): F32 | F64 {
    const of = size === 4 ? f32 : f64;
    if (this.operands[index]!.kind !== "mem") return of.load(this.register(index));
    const value = this.code.local(size === 4 ? "f32" : "f64") as Local<"f32">;
    const linear = this.linearAddress(index, "read");
    this.translated(
      size,
      linear,
      Tlb.read,
      (host) => this.code.set(value, of.load(host) as F32),
      () => {
        this.slow(this.outside.load, linear, size, 0);
        this.code.set(value, of.load(this.address(State.transfer)) as F32);
      },
    );
    this.constant.add(value);
    return value;
  }
  writeFloat(index: number, size: FloatSize, value: F32 | F64): void {
    this.code.store(size === 4 ? "f32" : "f64", this.register(index), 0, value);
  }

  floatGuard(size: FloatSize): FloatGuard {
    const { bias, mask, scalarMask } = guardConstants[size];
    const isQuiet = this.let(i32.sub(c32(0), inexactIsQuiet(this)));
    return { bias, mask: v128.and(mask, i32x4.splat(isQuiet)), scalarMask: i32.and(isQuiet, c32(scalarMask)) };
  }
  isRegular(_index: number, _lanes: FloatLanes): boolean {
    return false;
  }
  setRegular(_index: number, _lanes: FloatLanes): void {}

  writeWhole(index: number, value: V128): void {
    this.code.store("v128", this.register(index), 0, value);
  }

  readWide(index: number, alignment: Alignment = "unaligned"): Wide {
    if (this.operands[index]!.kind !== "mem") {
      const register = this.register(index);
      return { low: v128.load(register), high: v128.load(register, 16) };
    }
    const linear = this.linearAddress(index, "read");
    if (alignment === "aligned") this.checkAlignment(linear, 32);
    return this.loadWide(linear);
  }

  writeWide(index: number, { low, high }: Wide, alignment: Alignment = "unaligned"): void {
    if (this.operands[index]!.kind !== "mem") {
      this.code.store("v128", this.register(index), 0, low);
      this.code.store("v128", this.register(index), 16, high);
      return;
    }
    const now = { low: this.let(low), high: this.let(high) };
    const linear = this.linearAddress(index, "write");
    if (alignment === "aligned") this.checkAlignment(linear, 32);
    this.storeWide(linear, now);
  }

  vectorRegister(register: number): V128 {
    return v128.load(this.address(State.vector + register * 32));
  }

  setVectorRegister(register: number, value: V128): void {
    this.code.store("v128", this.address(State.vector + register * 32), 0, value);
  }

  setUpperHalf(register: number, value: V128): void {
    this.code.store("v128", this.address(State.vector + register * 32), 16, value);
  }

  loadVector(size: VectorSize, linear: Local<"i64">): V128 {
    const value = this.code.local("v128");
    this.translated(
      size,
      linear,
      Tlb.read,
      (host) => this.code.set(value, vectorLoads[size](host)),
      () => {
        this.slow(this.outside.load, linear, size, 0);
        this.code.set(value, vectorLoads[size](this.address(State.transfer)));
      },
    );
    this.constant.add(value);
    return value;
  }

  storeVector(size: VectorSize, linear: Local<"i64">, value: V128): void {
    const now = this.let(value);
    this.translated(
      size,
      linear,
      Tlb.write,
      (host) => storeLow(this.code, size, host, now),
      () => {
        this.code.store("v128", this.address(State.transfer), 0, now);
        this.slow(this.outside.store, linear, size, 0);
      },
    );
  }

  loadWide(linear: Local<"i64">): Wide {
    const low = this.code.local("v128");
    const high = this.code.local("v128");
    const load = (at: I32) => {
      this.code.set(low, v128.load(at));
      this.code.set(high, v128.load(at, 16));
    };
    this.translated(32, linear, Tlb.read, load, () => {
      this.slow(this.outside.load, linear, 32, 0);
      load(this.address(State.transfer));
    });
    this.constant.add(low);
    this.constant.add(high);
    return { low, high };
  }

  storeWide(linear: Local<"i64">, value: Wide): void {
    const low = this.let(value.low);
    const high = this.let(value.high);
    const store = (at: I32) => {
      this.code.store("v128", at, 0, low);
      this.code.store("v128", at, 16, high);
    };
    this.translated(32, linear, Tlb.write, store, () => {
      store(this.address(State.transfer));
      this.slow(this.outside.store, linear, 32, 0);
    });
  }

  indexVector(_index: number): Wide {
    const register = this.let(i32.load(this.record, Record.index));
    return { low: v128.load(register), high: v128.load(register, 16) };
  }

  indexShift(_index: number): I64 {
    return i64.extend_i32_u(i32.load(this.record, Record.scale));
  }

  immediate(index: number): number {
    const { value } = this.operands[index]!;
    if (value === undefined) throw new Error(`${this.shape.mnemonic} is not among the decidingImmediates`);
    return value;
  }

  vectorUnit(operation: number, a: V128, b: V128, argument: I32 = c32(0), third?: V128): V128 {
    if (third !== undefined) this.code.store("v128", this.address(State.third), 0, third);
    this.code.store("v128", this.address(State.transfer), 0, a);
    this.code.store("v128", this.address(State.transfer), 16, b);
    this.setState32(State.record, this.record);
    const outcome = this.let(callI32(this.outside.vectorUnit, c32(operation), argument));
    this.afterUnit(outcome);
    return this.let(v128.load(this.address(State.transfer)));
  }

  vectorFunction(name: VectorFunction, a: V128, b: V128, third: V128 = splat(8, 0)): V128 {
    const { vectorFunctionType, vectorFunctions } = this.outside;
    const slot = c32(vectorFunctions + vectorFunctionNumber(name));
    return callIndirect("v128", vectorFunctionType, slot, a, b, third);
  }

  // Addresses and memory.

  effectiveAddress(_index: number): I64 {
    const { size, hasIndex } = this.shape.address;
    const pointer = (field: number) => i64.load(i32.load(this.record, field));
    let sum = i64.add(pointer(Record.base), i64.load(this.record, Record.displacement));
    if (hasIndex) {
      const scale = i64.extend_i32_u(i32.load(this.record, Record.scale));
      sum = i64.add(sum, i64.shl(pointer(Record.index), scale));
    }
    return maskTo(size, sum);
  }

  linearAddress(index: number, access: Access): Local<"i64"> {
    return this.linear("operand", this.effectiveAddress(index), this.operands[index]!.size, access);
  }

  linear(segment: number | "operand", offset: I64, size: number, access: Access): Local<"i64"> {
    let within = offset;
    if (this.shape.address.checked) {
      within = this.let(offset);
      this.checkSegment(segment, within, size, access);
    }
    const linear = this.local(this.addBase(segment, within));
    if (segment === Seg.SS || (segment === "operand" && this.shape.address.stack)) this.onStack.add(linear);
    return linear;
  }

  load(size: IntegerSize, linear: Local<"i64">): Value {
    const value = this.code.local(size === 8 ? "i64" : "i32");
    this.translated(
      size,
      linear,
      Tlb.read,
      (host) => this.code.set(value, loads[size](host)),
      () => {
        this.slow(this.outside.load, linear, size, 0);
        this.code.set(value, loads[size](this.address(State.transfer)));
      },
    );
    this.constant.add(value);
    return value;
  }

  store(size: IntegerSize, linear: Local<"i64">, value: Value): void {
    const now = this.let(value);
    this.translated(
      size,
      linear,
      Tlb.write,
      (host) => this.code.store(storeKinds[size], host, 0, now),
      () => {
        this.slowStore(size, linear, now);
      },
    );
  }

  tryStore(linear: Local<"i64">, bytes: I32): void {
    const missed = this.code.let(c32(0));
    const miss = () => this.code.set(missed, c32(1));
    for (const at of [linear, this.lastByte(linear, bytes)]) this.translated(1, at, Tlb.write, () => {}, miss);
    const kind = AccessKind.WRITE | AccessKind.MASKED;
    this.code.if(missed, () => this.slow(this.outside.load, linear, bytes, kind));
  }

  modifyAt(size: IntegerSize, linear: Local<"i64">, change: (old: Value) => Value): void {
    const host = this.code.local("i32");
    const old = this.code.local(size === 8 ? "i64" : "i32") as Local<"i32">;
    const translate = (): void => {
      this.translated(
        size,
        linear,
        Tlb.write,
        (at) => this.code.set(host, at),
        () => this.code.set(host, SLOW),
      );
    };
    translate();
    if (this.lock) {
      // The slow path is atomic only against itself: it fills the buffer, and the operation goes the fast way after all.
      this.code.if(i32.eq(host, SLOW), () => {
        this.slow(this.outside.load, linear, size, AccessKind.WRITE | AccessKind.FILL);
        translate();
      });
      // Atomic instructions of WebAssembly need alignment; the slow path has a lock for what is not.
      if (size > 1) this.code.if(i32.and(host, c32(size - 1)), () => this.code.set(host, SLOW));
    }
    this.code.if(i32.eq(host, SLOW), () => {
      this.slow(this.outside.load, linear, size, AccessKind.WRITE | (this.lock ? AccessKind.LOCK : 0));
      this.code.set(old, loads[size](this.address(State.transfer)) as I32);
    });
    const attempt = (retry: (lost: I32) => void): void => {
      this.code.if(i32.ne(host, SLOW), () => this.code.set(old, loads[size](host) as I32));
      const result = this.let(change(old));
      this.code.if(
        i32.eq(host, SLOW),
        () => this.slowStore(size, linear, result, this.lock ? AccessKind.LOCK : 0),
        () => {
          if (!this.lock) {
            this.code.store(storeKinds[size], host, 0, result);
            return;
          }
          const found = compareExchange(size, host, old, result);
          retry(size === 8 ? i64.ne(found as I64, old as unknown as I64) : i32.ne(found as I32, old));
        },
      );
    };
    if (this.lock) this.code.loop((again) => attempt((lost) => this.code.brIf(again, lost)));
    else attempt(() => {});
  }

  // Implicit registers.

  gpr(register: number, size: IntegerSize): Value {
    return loads[size](this.address(State.gpr + register * 8));
  }

  setGpr(register: number, size: IntegerSize, value: Value): void {
    this.storeRegister(this.address(State.gpr + register * 8), 0, size, value);
  }

  push(size: IntegerSize, value: Value): void {
    const now = this.let(value);
    const stack = this.stackPointer();
    const below = this.let(maskTo(this.stackSize, i64.sub(stack, c64(size))));
    this.store(size, this.linear(Seg.SS, below, size, "write"), now);
    this.setGpr(4, this.stackSize, fromI64(this.stackSize, below));
  }

  pop(size: IntegerSize): Value {
    const stack = this.let(this.stackPointer());
    const value = this.load(size, this.linear(Seg.SS, stack, size, "read"));
    this.setGpr(4, this.stackSize, fromI64(this.stackSize, i64.add(stack, c64(size))));
    return value;
  }

  // Flags and state.

  flagResult(): I64 {
    return this.state64(State.flagResult);
  }
  flagAux(): I32 {
    return this.state32(State.flagAux);
  }
  setFlags(result: I64, aux: I32): void {
    // Either may be made of the old flags.
    const newAux = this.let(aux);
    this.setState64(State.flagResult, result);
    this.setState32(State.flagAux, newAux);
  }
  setFlagsOf({ size, result }: Comparison, aux: () => I32): void {
    this.setFlags(signExtend(size, result), aux());
  }
  compared(): Comparison | undefined {
    return undefined;
  }
  flagRest(): I32 {
    return this.state32(State.flagRest);
  }
  setFlagRest(value: I32): void {
    this.setState32(State.flagRest, value);
  }

  state32(offset: number): I32 {
    return i32.load(this.address(offset));
  }
  state64(offset: number): I64 {
    return i64.load(this.address(offset));
  }
  setState32(offset: number, value: I32): void {
    this.code.store("i32", this.address(offset), 0, value);
  }
  setState64(offset: number, value: I64): void {
    this.code.store("i64", this.address(offset), 0, value);
  }

  selectBank(bank: I32): void {
    this.setState32(State.tlb, bank);
  }

  let<T extends Expr>(value: T): T {
    if (value instanceof ConstI32 || value instanceof ConstI64 || this.constant.has(value)) return value;
    const local = this.code.let(value);
    this.constant.add(local);
    return local as Expr as T;
  }

  // Control.

  instructionRip(): I64 {
    return this.ripAt(Record.start);
  }
  nextRip(): I64 {
    return this.ripAt(Record.next);
  }

  jumpRelative(): void {
    this.ended = true;
    this.follow(Record.immediate, Record.taken);
  }

  branchRelative(condition: I32): void {
    this.ended = true;
    this.code.if(condition, () => this.follow(Record.immediate, Record.taken));
    this.follow(Record.next, Record.fallThrough);
  }

  jump(target: I64): void {
    this.ended = true;
    this.setState64(State.blockRip, target);
    this.code.tailCall(this.outside.lookup);
  }

  repeatWhile(body: () => I32): void {
    this.code.loop((again) => {
      const more = this.let(body());
      this.code.if(more, () => {
        const budget = this.let(i32.sub(this.state32(State.budget), c32(1)));
        this.setState32(State.budget, budget);
        this.code.brIf(again, i32.ge_s(budget, c32(0)));
        this.leave(Return.BUDGET_REPEAT);
      });
    });
  }

  raiseIf(condition: I32, vector: number): void {
    this.code.if(
      condition,
      () => {
        this.setState32(State.faultVector, c32(vector));
        this.setState32(State.faultError, c32(0));
        this.leave(Return.UNWIND);
      },
      undefined,
      false,
    );
  }

  microcodeIf(condition: I32): void {
    this.code.if(condition, () => this.leave(Return.MICROCODE));
  }

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

  stateAddress(): I32 {
    return this.address(0);
  }

  /** Leaves for TypeScript to do this instruction. */
  microcode(): void {
    this.ended = true;
    this.leave(Return.MICROCODE);
  }

  /** Leaves because this record's block is no more. */
  resync(): void {
    this.ended = true;
    this.leave(Return.RESYNC);
  }

  /** The end of a block without a branch. */
  endOfBlock(): void {
    this.ended = true;
    this.follow(Record.next, Record.fallThrough);
  }

  // Inside.

  /** Goes on at the block's start plus a distance of the record, over the chain field if that is known. */
  protected follow(distance: number, chain: number): void {
    const wide = distance === Record.immediate;
    const by = wide ? i64.load(this.record, distance) : i64.load32_u(this.record, distance);
    // 66 makes a near branch 16 bits wide outside 64-bit code; the decoder says so in the operand size.
    const size = this.bits === 64 ? 8 : wide ? this.operandSize : this.bits === 16 ? 2 : 4;
    this.setState64(State.blockRip, maskTo(size as 2 | 4 | 8, i64.add(this.state64(State.blockRip), by)));
    const target = this.let(i32.load(this.record, chain));
    this.code.if(i32.gt_u(target, c32(CHAIN_LOOKUP)), () => {
      const budget = this.let(i32.sub(this.state32(State.budget), c32(1)));
      this.setState32(State.budget, budget);
      this.code.if(i32.lt_s(budget, c32(0)), () => this.code.return(c32(Return.BUDGET)));
      this.enter(target);
    });
    this.code.if(target, () => this.code.tailCall(this.outside.lookup));
    this.setState32(State.chain, i32.add(this.record, c32(chain)));
    this.code.return(c32(Return.LOOKUP));
  }

  protected enter(record: I32): void {
    this.code.tailCallIndirect(this.outside.handlerType, i32.load(record, Record.handler), record);
  }

  /** Goes on after a call of the vector unit, which was for that, or leaves. */
  protected afterUnit(outcome: I32): void {
    this.code.if(i32.eq(outcome, c32(UnitOutcome.FAULT)), () => this.abandon());
  }

  /** Leaves after a helper has recorded a fault or an exit; `State.record` is set. */
  protected abandon(): void {
    this.code.tailCall(this.outside.abandoned, this.record);
  }

  protected leave(reason: Return): void {
    this.setState32(State.record, this.record);
    this.code.return(c32(reason));
  }

  /** Tries the lookaside buffer: `hit` gets the host address. An access across a page's end misses. */
  protected translated(
    size: number,
    linear: Local<"i64">,
    table: number,
    hit: (host: I32) => void,
    miss: () => void,
  ): void {
    const entry = this.lookaside(size, linear, table);
    this.code.if(entry.miss, miss, () => hit(this.let(i32.add(i32.wrap(linear), entry.addend))), false);
  }

  /** Whether the lookaside buffer does not know the page of an access, and what to add to an address there. */
  protected lookaside(size: number, linear: Local<"i64">, table: number): { miss: I32; addend: I32 } {
    const index = i32.and(i32.shr_u(i32.wrap(linear), c32(8)), c32((Tlb.entries - 1) * Tlb.entrySize));
    const buffer = this.lookasideBuffer();
    // A buffer that is known becomes the loads' offset.
    const isKnown = buffer instanceof ConstI32;
    const entry = this.let(isKnown ? index : i32.add(buffer, index));
    const offset = table + (isKnown ? buffer.value >>> 0 : 0);
    // In the right page what differs is the offset; what begins too far behind in it ends in the next one.
    const difference = i64.xor(linear, i64.load(entry, offset + Tlb.tag));
    return { miss: i64.ge_u(difference, c64(4097 - size)), addend: i32.load(entry, offset + Tlb.addend) };
  }

  protected lookasideBuffer(): I32 {
    return this.state32(State.tlb);
  }

  protected slow(helper: number, linear: Local<"i64">, size: number | I32, kind: number): void {
    this.setState32(State.record, this.record);
    const stack = this.onStack.has(linear) ? AccessKind.STACK : 0;
    const outcome = this.let(callI32(helper, linear, typeof size === "number" ? c32(size) : size, c32(kind | stack)));
    this.code.if(outcome, () => this.abandon(), undefined, false);
  }

  protected checkAlignment(linear: Local<"i64">, bytes: 16 | 32 = 16): void {
    this.raiseIf(i32.and(i32.wrap(linear), c32(bytes - 1)), Vector.GP);
  }

  protected lastByte(linear: I64, bytes: I32): Local<"i64"> {
    return this.local(i64.add(linear, i64.extend_i32_u(i32.sub(bytes, c32(1)))));
  }

  protected slowStore(size: IntegerSize, linear: Local<"i64">, value: Value, kind = 0): void {
    this.code.store(storeKinds[size], this.address(State.transfer), 0, value);
    this.slow(this.outside.store, linear, size, kind);
  }

  protected checkSegment(segment: number | "operand", offset: I64, size: number, access: Access): void {
    const first = access === "read" ? SegmentRange.readFirst : SegmentRange.writeFirst;
    const last = access === "read" ? SegmentRange.readLast : SegmentRange.writeLast;
    const number = segment === "operand" ? this.operandSegment() : c32(segment);
    const range = this.let(i32.add(i32.mul(number, c32(SegmentRange.size)), c32(this.base + State.segmentRanges)));
    const outside = i32.or(
      i64.lt_u(offset, i64.load32_u(range, first)),
      i64.gt_u(i64.add(offset, c64(size - 1)), i64.load32_u(range, last)),
    );
    this.segmentFaultIf(outside, number, access);
  }

  protected segmentFaultIf(condition: I32, segment: I32, access: Access): void {
    this.code.if(condition, () => {
      this.setState32(State.record, this.record);
      this.code.call(this.outside.segmentFault, segment, c32(access === "write" ? 1 : 0));
      this.abandon();
    });
  }

  protected operandSegmentBase(): I64 {
    return i64.load(i32.load(this.record, Record.segment));
  }

  /** The number of the memory operand's segment, from where its base is. */
  protected operandSegment(): I32 {
    const base = i32.sub(i32.load(this.record, Record.segment), c32(this.base + State.segmentBase));
    return this.let(i32.shr_u(base, c32(3)));
  }

  protected addBase(segment: number | "operand", offset: I64): I64 {
    // In 64-bit code only FS and GS have a base, which the shape knows for the operand's segment.
    const added =
      segment === "operand" ? this.shape.address.hasSegment : this.bits !== 64 && this.shape.address.hasSegment;
    const base = !added
      ? undefined
      : segment === "operand"
        ? this.operandSegmentBase()
        : this.state64(State.segmentBase + segment * 8);
    const sum = base === undefined ? offset : i64.add(offset, base);
    return this.bits === 64 ? sum : base === undefined ? sum : maskTo(4, sum);
  }

  protected stackPointer(): I64 {
    return zeroExtend(this.stackSize, this.gpr(4, this.stackSize));
  }

  protected ripAt(field: number): I64 {
    const sum = i64.add(this.state64(State.blockRip), i64.load32_u(this.record, field));
    return maskTo(this.bits === 64 ? 8 : this.bits === 32 ? 4 : 2, sum);
  }

  protected register(index: number): I32 {
    return i32.load(this.record, Record.register[index]!);
  }

  protected storeRegister(address: I32, offset: number, size: IntegerSize, value: Value): void {
    // A 32-bit write clears the upper half.
    if (size === 4) this.code.store("i64", address, offset, i64.extend_i32_u(value as I32));
    else this.code.store(storeKinds[size], address, offset, value);
  }

  protected address(offset: number): ConstI32 {
    return c32(this.base + offset);
  }

  protected local(value: I64): Local<"i64"> {
    const local = this.let(value);
    if (local instanceof Local) return local as Local<"i64">;
    const copy = this.code.let(value);
    this.constant.add(copy);
    return copy;
  }
}

/** Stores the low bytes of a vector. */
export function storeLow(code: Code, size: VectorSize, address: I32, value: V128): void {
  if (size === 16) code.store("v128", address, 0, value);
  else code.storeLane(size, address, value);
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

function maskTo(size: 2 | 4 | 8, value: I64): I64 {
  return size === 8 ? value : i64.and(value, c64(size === 4 ? 0xffffffff : 0xffff));
}

const callI32 = (index: number, ...operands: Expr[]): I32 => call("i32", index, ...operands);
