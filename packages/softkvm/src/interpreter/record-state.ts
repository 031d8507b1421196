/**
 * The interpreter's view of an instruction, from the bottom up: registers, flags and the processor's state, which are in
 * memory, and the ways to leave the instruction.
 */

import { State } from "../cpu/layout.ts";
import type { Comparison, IntegerSize, OperandShape, Value } from "../semantics/context.ts";
import type { Unit } from "../semantics/sse/availability.ts";
import { signExtend } from "../semantics/words.ts";
import type { Code, StoreKind } from "../wasm/code.ts";
import { ConstI32, ConstI64, type Expr, type F64, type I32, type I64, Local } from "../wasm/expr.ts";
import { c32, c64, call, i32, i64 } from "../wasm/ops.ts";
import type { Outside } from "./outside.ts";
import { Record, Return } from "./record.ts";
import type { Shape } from "./shape.ts";

export const loads = {
  1: i32.load8_u,
  2: i32.load16_u,
  4: i32.load,
  8: i64.load,
} as const;
export const storeKinds: { readonly [size in IntegerSize]: StoreKind } = {
  1: "i32_8",
  2: "i32_16",
  4: "i32",
  8: "i64",
};

export abstract class RecordState {
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

  immediate(index: number): number {
    const { value } = this.operands[index]!;
    if (value === undefined) throw new Error(`${this.shape.mnemonic} is not among the decidingImmediates`);
    return value;
  }

  gpr(register: number, size: IntegerSize): Value {
    return loads[size](this.address(State.gpr + register * 8));
  }

  setGpr(register: number, size: IntegerSize, value: Value): void {
    this.storeRegister(this.address(State.gpr + register * 8), 0, size, value);
  }

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

  timeStamp(): I64 {
    return this.let(call("i64", this.outside.timeStamp));
  }

  portRead(port: I32, size: IntegerSize): F64 {
    return this.let(call("f64", this.outside.portRead, port, c32(size)));
  }

  portWrite(port: I32, size: IntegerSize, value: I32): I32 {
    return this.let(call("i32", this.outside.portWrite, port, c32(size), value));
  }

  msrWrite(index: I32, low: I32, high: I32): I32 {
    return this.let(call("i32", this.outside.msrWrite, index, low, high));
  }

  stateAddress(): I32 {
    return this.address(0);
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

  instructionRip(): I64 {
    return this.ripAt(Record.start);
  }

  nextRip(): I64 {
    return this.ripAt(Record.next);
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

  /** Leaves for TypeScript to do this instruction. */
  microcode(): void {
    this.ended = true;
    this.leave(Return.MICROCODE);
  }

  /** Leaves after a helper has recorded a fault or an exit; `State.record` is set. */
  protected abandon(): void {
    this.code.tailCall(this.outside.abandoned, this.record);
  }

  protected leave(reason: Return): void {
    this.setState32(State.record, this.record);
    this.code.return(c32(reason));
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

export function maskTo(size: 2 | 4 | 8, value: I64): I64 {
  return size === 8 ? value : i64.and(value, c64(size === 4 ? 0xffffffff : 0xffff));
}
