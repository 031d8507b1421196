/**
 * The compiler's view of an instruction: its operands are known and folded in, registers and flags are locals of the
 * region's function. Everything else (memory, segments, slow paths) is as in the interpreter's view.
 */

import { State, Tlb } from "../cpu/layout.ts";
import type { Instruction, Operand } from "../decode/instruction.ts";
import type { Outside } from "../interpreter/outside.ts";
import { Return } from "../interpreter/record.ts";
import { RecordContext } from "../interpreter/record-context.ts";
import { loads, storeKinds } from "../interpreter/record-state.ts";
import { storeLow, vectorLoads } from "../interpreter/record-vectors.ts";
import { registerOffset } from "../interpreter/record-writer.ts";
import type { Shape } from "../interpreter/shape.ts";
import { addressedOperand, segmentOf } from "../interpreter/shape.ts";
import type { Alignment, Comparison, FloatLanes, IntegerSize, Value, VectorSize, Wide } from "../semantics/context.ts";
import type { FloatGuard } from "../semantics/sse/checked.ts";
import type { FloatSize } from "../semantics/sse/lanes.ts";
import { fromI64 } from "../semantics/words.ts";
import { type F32, type F64, type I32, type I64, Local, type V128 } from "../wasm/expr.ts";
import { c32, c64, compareExchange, i32, i64 } from "../wasm/ops.ts";
import { constant, f32x4, f64x2, i8x16, v128 } from "../wasm/simd.ts";
import type { StackKnowledge } from "../x87/quick/knowledge.ts";
import { Leave, type RegionState } from "./region-state.ts";

/** Where an instruction stands in its region. */
export interface Place {
  /** The address of its interpreter's record: how TypeScript knows it when the region is left here. */
  readonly record: number;
  /** From the region's base address to its block's first instruction. */
  readonly block: number;
  /** From its block's first instruction to this one and to the next one. */
  readonly start: number;
  readonly next: number;
}

export class RegionContext extends RecordContext {
  /** What the branch at the block's end depends on. */
  condition: I32 | undefined;
  readonly #region: RegionState;
  readonly #instruction: Instruction;
  readonly #place: Place;
  readonly #memory: Operand | undefined;
  #mayBeMicrocode = false;
  #changesMode = false;

  constructor(region: RegionState, shape: Shape, outside: Outside, instruction: Instruction, place: Place) {
    super(region.code, shape, region.base, outside, c32(place.record));
    this.#region = region;
    this.#instruction = instruction;
    this.#place = place;
    this.#memory = addressedOperand(instruction);
  }

  /** Whether the instruction has ended its block by going somewhere that is known only at run time. */
  get left(): boolean {
    return this.ended;
  }

  override read(index: number): Value {
    const { kind, size } = this.operands[index]!;
    const operand = this.#instruction.operands[index]!;
    if (kind === "imm") return fromI64(size as IntegerSize, c64(operand.value64));
    if (kind !== "gpr") return super.read(index);
    return this.#readGpr(operand.reg, size as IntegerSize, operand.high);
  }

  override readExtended(index: number): I64 {
    const { kind, size } = this.operands[index]!;
    if (kind !== "mem") return super.readExtended(index);
    const host = this.#host(size, this.linearAddress(index, "read"), Tlb.read);
    return this.let(extendingLoads[size as IntegerSize](host));
  }

  override write(index: number, value: Value): void {
    const { kind, size } = this.operands[index]!;
    if (kind !== "gpr") {
      super.write(index, value);
      return;
    }
    const operand = this.#instruction.operands[index]!;
    this.#writeGpr(operand.reg, size as IntegerSize, operand.high, value);
  }

  override gpr(register: number, size: IntegerSize): Value {
    return this.#readGpr(register, size, false);
  }
  override setGpr(register: number, size: IntegerSize, value: Value): void {
    this.#writeGpr(register, size, false, value);
  }

  override effectiveAddress(index: number): I64 {
    const operand = this.#instruction.operands[index]!;
    let sum: I64;
    if (operand.ripRelative) {
      sum = i64.add(this.#region.entryRip, c64(operand.disp64 + BigInt(this.#place.block + this.#place.next)));
    } else {
      const displacement = c64(operand.disp64);
      sum = operand.base < 0 ? displacement : i64.add(this.#region.gpr(operand.base), displacement);
      if (operand.index >= 0 && operand.bank === "gpr") {
        sum = i64.add(sum, i64.shl(this.#region.gpr(operand.index), c64(operand.scale)));
      }
    }
    const { size } = this.shape.address;
    return size === 8 ? sum : i64.and(sum, c64(size === 4 ? 0xffffffff : 0xffff));
  }

  override readVector(index: number, alignment?: Alignment): V128 {
    const { kind, size } = this.operands[index]!;
    if (kind !== "xmm") return super.readVector(index, alignment);
    const whole = this.#region.vector(this.#instruction.operands[index]!.reg);
    return size >= 16 ? whole : v128.and(whole, constant(8, [size === 8 ? -1n : 2n ** BigInt(size * 8) - 1n, 0n]));
  }
  override writeVector(index: number, value: V128, alignment?: Alignment): void {
    const { kind, size } = this.operands[index]!;
    if (kind !== "xmm") {
      super.writeVector(index, value, alignment);
      return;
    }
    const { reg } = this.#instruction.operands[index]!;
    // The lower bytes from the value, the others stay.
    const lanes = Array.from({ length: 16 }, (_, lane) => (lane < size ? lane : lane + 16));
    this.#region.setVector(reg, size === 16 ? value : i8x16.shuffle(value, this.#region.vector(reg), lanes));
  }
  override readFloat(index: number, size: FloatSize): F32 | F64 {
    if (this.operands[index]!.kind !== "xmm") return super.readFloat(index, size);
    const whole = this.#region.vector(this.#instruction.operands[index]!.reg);
    return size === 4 ? f32x4.extract_lane(whole, 0) : f64x2.extract_lane(whole, 0);
  }
  override writeFloat(index: number, size: FloatSize, value: F32 | F64): void {
    const { reg } = this.#instruction.operands[index]!;
    const old = this.#region.vector(reg);
    const kept = this.#region.regular.get(reg);
    const whole = size === 4 ? f32x4.replace_lane(old, 0, value as F32) : f64x2.replace_lane(old, 0, value as F64);
    this.#region.setVector(reg, whole);
    // The other lanes are what they were.
    if (kept !== undefined) this.#region.regular.set(reg, kept);
  }

  override floatGuard(size: FloatSize): FloatGuard {
    return this.#region.guards.of(size);
  }
  /** What the unit does may be done again. */
  protected override afterUnit(outcome: I32): void {
    this.#interpretIf(outcome);
  }
  override isRegular(index: number, lanes: FloatLanes): boolean {
    return (
      this.operands[index]!.kind === "xmm" && this.#region.isRegular(this.#instruction.operands[index]!.reg, lanes)
    );
  }
  override setRegular(index: number, lanes: FloatLanes): void {
    const { kind } = this.operands[index]!;
    if (kind === "xmm" && !this.isRegular(index, lanes)) {
      this.#region.regular.set(this.#instruction.operands[index]!.reg, lanes);
    }
  }

  override writeWhole(index: number, value: V128): void {
    this.#region.setVector(this.#instruction.operands[index]!.reg, value);
  }
  override readWide(index: number, alignment?: Alignment): Wide {
    if (this.operands[index]!.kind === "mem") return super.readWide(index, alignment);
    return this.#wide(this.#instruction.operands[index]!.reg);
  }
  override writeWide(index: number, value: Wide, alignment?: Alignment): void {
    if (this.operands[index]!.kind === "mem") {
      super.writeWide(index, value, alignment);
      return;
    }
    const { reg } = this.#instruction.operands[index]!;
    this.#region.setVector(reg, value.low);
    this.#region.setUpper(reg, value.high);
  }
  override setUpperHalf(register: number, value: V128): void {
    this.#region.setUpper(register, value);
  }
  override indexVector(index: number): Wide {
    return this.#wide(this.#instruction.operands[index]!.index);
  }
  override indexShift(index: number): I64 {
    return c64(this.#instruction.operands[index]!.scale);
  }
  override vectorRegister(register: number): V128 {
    return this.#region.vector(register);
  }
  override setVectorRegister(register: number, value: V128): void {
    this.#region.setVector(register, value);
  }

  override flagResult(): I64 {
    return this.#region.flags.result();
  }
  override flagAux(): I32 {
    return this.#region.flags.aux();
  }
  override setFlags(result: I64, aux: I32): void {
    // Either may be made of the old flags.
    const newResult = this.let(result);
    this.#region.flags.set(newResult, aux);
  }
  override setFlagsOf(comparison: Comparison): void {
    this.#region.flags.setOf(comparison);
  }
  override compared(): Comparison | undefined {
    return this.#region.flags.compared;
  }

  override state32(offset: number): I32 {
    return this.#region.fields.word(offset) ?? super.state32(offset);
  }
  override state64(offset: number): I64 {
    if (offset === State.fip) return this.#region.fields.pointer() ?? super.state64(offset);
    return super.state64(offset);
  }
  override setState32(offset: number, value: I32): void {
    if (offset === State.mode) this.#changesMode = true;
    if (!this.#region.fields.setWord(offset, value)) super.setState32(offset, value);
    if (offset === State.mxcsr) this.#region.guards.renew();
  }
  override setState64(offset: number, value: I64): void {
    if (offset === State.fip && this.#region.fields.setPointer(value)) return;
    super.setState64(offset, value);
  }

  override selectBank(bank: I32): void {
    const { lookasideBuffer } = this.#region;
    const address = this.let(bank);
    // Where it is no local, another bank comes with another mode, and the region is left.
    if (lookasideBuffer instanceof Local) this.code.set(lookasideBuffer, address);
    this.setState32(State.tlb, address);
  }

  override stackTags(): I32 {
    return this.#region.fields.tags();
  }
  override setStack(by: number, tags: I32): void {
    this.#region.fields.setStack(by, tags);
  }
  override stackAddress(index: I32): I32 {
    const address = this.#region.fields.address(index, this.base + State.fpr);
    return address instanceof Local ? address : this.let(address);
  }
  override stackKnowledge(): StackKnowledge {
    return this.#region.fields.knowledge;
  }

  override instructionRip(): I64 {
    return this.#rip(this.#place.start);
  }
  override nextRip(): I64 {
    return this.#rip(this.#place.next);
  }
  override jumpRelative(): void {
    this.ended = true;
  }
  override branchRelative(condition: I32): void {
    this.ended = true;
    this.condition = this.let(condition);
  }
  override jump(target: I64): void {
    this.ended = true;
    if (this.#changesMode) this.#region.leave(Leave.ELSEWHERE, target);
    else this.#region.lookUp(target);
  }

  override repeatWhile(body: () => I32, cost: I32 = c32(1)): void {
    const { budget } = this.#region;
    this.code.loop((again) => {
      const more = this.let(body());
      this.code.if(more, () => {
        this.code.set(budget, i32.sub(budget, cost));
        this.code.brIf(again, i32.ge_s(budget, c32(0)));
        this.leave(Return.BUDGET_REPEAT);
      });
    });
  }

  /** Leaves with `State.record` telling the instruction; the address is that of its block. */
  protected override leave(reason: Return): void {
    this.setState32(State.record, c32(this.#place.record));
    this.#region.leave(reason, this.#blockRip());
  }
  override microcodeIf(condition: I32): void {
    const region = this.#region;
    if (!this.#mayBeMicrocode) {
      this.#mayBeMicrocode = true;
      this.code.set(region.leftRecord, c32(this.#place.record));
      this.code.set(region.leftBlock, c32(this.#place.block));
    }
    this.code.brIf(region.microcode!, condition, false);
  }
  protected override abandon(): void {
    this.#region.leave(Return.UNWIND, this.#blockRip());
  }

  // What takes the slow path is done by the interpreter, from the instruction's start and on to the end of its block. A
  // region then calls next to nothing, so that V8 keeps registers in registers.

  override load(size: IntegerSize, linear: Local<"i64">): Value {
    return this.let(loads[size](this.#host(size, linear, Tlb.read)));
  }
  override store(size: IntegerSize, linear: Local<"i64">, value: Value): void {
    const now = this.let(value);
    this.code.store(storeKinds[size], this.#host(size, linear, Tlb.write), 0, now);
  }
  override loadVector(size: VectorSize, linear: Local<"i64">): V128 {
    return this.let(vectorLoads[size](this.#host(size, linear, Tlb.read)));
  }
  override storeVector(size: VectorSize, linear: Local<"i64">, value: V128): void {
    const now = this.let(value);
    storeLow(this.code, size, this.#host(size, linear, Tlb.write), now);
  }
  override loadWide(linear: Local<"i64">): Wide {
    const host = this.let(this.#host(32, linear, Tlb.read));
    return { low: this.let(v128.load(host)), high: this.let(v128.load(host, 16)) };
  }
  override storeWide(linear: Local<"i64">, { low, high }: Wide): void {
    const now = { low: this.let(low), high: this.let(high) };
    const host = this.let(this.#host(32, linear, Tlb.write));
    this.code.store("v128", host, 0, now.low);
    this.code.store("v128", host, 16, now.high);
  }
  override tryStore(linear: Local<"i64">, bytes: I32): void {
    for (const at of [linear, this.lastByte(linear, bytes)]) this.#host(1, at, Tlb.write);
  }
  override modifyAt(size: IntegerSize, linear: Local<"i64">, change: (old: Value) => Value): void {
    const host = this.let(this.#host(size, linear, Tlb.write));
    if (!this.lock) {
      const old = this.let(loads[size](host));
      this.code.store(storeKinds[size], host, 0, change(old));
      return;
    }
    if (size > 1) this.#interpretIf(i32.and(host, c32(size - 1)));
    const old = this.code.local(size === 8 ? "i64" : "i32") as Local<"i32">;
    this.code.loop((again) => {
      this.code.set(old, loads[size](host) as I32);
      const found = compareExchange(size, host, old, this.let(change(old)));
      this.code.brIf(again, size === 8 ? i64.ne(found as I64, old as unknown as I64) : i32.ne(found as I32, old));
    });
  }
  override portRead(port: I32, size: IntegerSize): F64 {
    return this.#asked(() => super.portRead(port, size));
  }
  override portWrite(port: I32, size: IntegerSize, value: I32): I32 {
    return this.#asked(() => super.portWrite(port, size, value));
  }
  override msrWrite(index: I32, low: I32, high: I32): I32 {
    return this.#asked(() => super.msrWrite(index, low, high));
  }

  /** A device takes some of the budget, and ends it where it wants a look around. */
  #asked<T>(ask: () => T): T {
    const { budget } = this.#region;
    this.setState32(State.budget, budget);
    const answer = ask();
    this.code.set(budget, this.state32(State.budget));
    return answer;
  }
  override raiseIf(condition: I32): void {
    this.#interpretIf(condition);
  }
  protected override segmentFaultIf(condition: I32): void {
    this.#interpretIf(condition);
  }

  /** Where a linear address is in linear memory. */
  #host(size: number, linear: Local<"i64">, table: number): I32 {
    const { miss, addend } = this.lookaside(size, linear, table);
    this.#interpretIf(miss);
    return i32.add(i32.wrap(linear), addend);
  }

  #interpretIf(condition: I32): void {
    const { code } = this;
    const region = this.#region;
    code.if(
      condition,
      () => {
        code.set(region.leftRecord, c32(this.#place.record));
        code.set(region.leftBlock, c32(this.#place.block));
        code.br(region.interpret!);
      },
      undefined,
      false,
    );
  }

  protected override lookasideBuffer(): I32 {
    return this.#region.lookasideBuffer;
  }
  protected override register(index: number): I32 {
    const operand = this.#instruction.operands[index]!;
    return c32(this.base + registerOffset(operand));
  }
  protected override operandSegment(): I32 {
    return c32(segmentOf(this.#instruction, this.#memory));
  }
  protected override operandSegmentBase(): I64 {
    return this.state64(State.segmentBase + segmentOf(this.#instruction, this.#memory) * 8);
  }

  #wide(register: number): Wide {
    return { low: this.#region.vector(register), high: this.#region.upper(register) };
  }

  #blockRip(): I64 {
    return this.#rip(0);
  }

  #rip(distance: number): I64 {
    const sum = i64.add(this.#region.entryRip, c64(this.#place.block + distance));
    return this.bits === 64 ? sum : i64.and(sum, c64(this.bits === 32 ? 0xffffffff : 0xffff));
  }

  #readGpr(register: number, size: IntegerSize, high: boolean): Value {
    const whole = this.#region.gpr(register);
    if (size === 8) return whole;
    const low = i32.wrap(whole);
    if (size === 4) return low;
    if (size === 2) return i32.and(low, c32(0xffff));
    return i32.and(high ? i32.shr_u(low, c32(8)) : low, c32(0xff));
  }

  #writeGpr(register: number, size: IntegerSize, high: boolean, value: Value): void {
    const region = this.#region;
    if (size === 8) region.setGpr(register, value as I64);
    else if (size === 4) region.setGpr(register, i64.extend_i32_u(value as I32));
    else {
      const shift = high ? 8 : 0;
      const mask = (size === 1 ? 0xff : 0xffff) << shift;
      const part = i64.extend_i32_u(i32.and(shift ? i32.shl(value as I32, c32(shift)) : (value as I32), c32(mask)));
      region.setGpr(register, i64.or(i64.and(region.gpr(register), c64(~BigInt(mask))), part));
    }
  }
}

const extendingLoads = { 1: i64.load8_s, 2: i64.load16_s, 4: i64.load32_s, 8: i64.load } as const;
