/**
 * WebAssembly expressions as small trees: built bottom up, folded where their operands are constants, written to a
 * function body when used. A tree is written where it is used and each time it is used; what must be computed once, or
 * at a certain moment, is put into a local ({@link Code.let}).
 */

import type { Bytes } from "./bytes.ts";

export type ValueType = "i32" | "i64" | "f32" | "f64" | "v128";

export abstract class Expr<T extends ValueType = ValueType> {
  readonly type: T;
  constructor(type: T) {
    this.type = type;
  }
  abstract write(out: Bytes): void;
}

export type I32 = Expr<"i32">;
export type I64 = Expr<"i64">;
export type F32 = Expr<"f32">;
export type F64 = Expr<"f64">;
export type V128 = Expr<"v128">;

export class ConstI32 extends Expr<"i32"> {
  readonly value: number;
  constructor(value: number) {
    super("i32");
    this.value = value | 0;
  }
  write(out: Bytes): void {
    out.byte(0x41);
    out.s32(this.value);
  }
}

export class ConstI64 extends Expr<"i64"> {
  readonly value: bigint;
  constructor(value: bigint) {
    super("i64");
    this.value = BigInt.asIntN(64, value);
  }
  write(out: Bytes): void {
    out.byte(0x42);
    out.s64(this.value);
  }
}

export class ConstF64 extends Expr<"f64"> {
  readonly value: number;
  constructor(value: number) {
    super("f64");
    this.value = value;
  }
  write(out: Bytes): void {
    out.byte(0x44);
    out.f64(this.value);
  }
}

/** 16 bytes, in memory order. */
export class ConstV128 extends Expr<"v128"> {
  readonly bytes: Uint8Array;
  constructor(bytes: Uint8Array) {
    super("v128");
    if (bytes.length !== 16) throw new RangeError(`a v128 has 16 bytes, not ${bytes.length}`);
    this.bytes = bytes;
  }
  write(out: Bytes): void {
    out.byte(0xfd);
    out.u32(12);
    out.append(this.bytes);
  }
}

/** A function's local variable or parameter. Its value is the one at the time the expression is written. */
export class Local<T extends ValueType = ValueType> extends Expr<T> {
  readonly index: number;
  constructor(type: T, index: number) {
    super(type);
    this.index = index;
  }
  write(out: Bytes): void {
    out.byte(0x20);
    out.u32(this.index);
  }
}

/** Any instruction that takes its operands from the stack: opcode bytes, then immediates. */
export class Operation<T extends ValueType> extends Expr<T> {
  readonly opcode: number;
  readonly operands: readonly Expr[];
  constructor(type: T, opcode: number, operands: readonly Expr[]) {
    super(type);
    this.opcode = opcode;
    this.operands = operands;
  }
  write(out: Bytes): void {
    for (const operand of this.operands) operand.write(out);
    writeOpcode(out, this.opcode);
  }
}

/** A SIMD instruction with a lane number behind it. */
export class LaneOperation<T extends ValueType> extends Operation<T> {
  readonly lane: number;
  constructor(type: T, opcode: number, operands: readonly Expr[], lane: number) {
    super(type, opcode, operands);
    this.lane = lane;
  }
  override write(out: Bytes): void {
    super.write(out);
    out.byte(this.lane);
  }
}

/** `i8x16.shuffle`: its sixteen lane numbers are immediates. */
export class Shuffle extends Operation<"v128"> {
  readonly lanes: readonly number[];
  constructor(a: V128, b: V128, lanes: readonly number[]) {
    super("v128", 0xfd0d, [a, b]);
    this.lanes = lanes;
  }
  override write(out: Bytes): void {
    super.write(out);
    for (const lane of this.lanes) out.byte(lane);
  }
}

/** A load from linear memory: opcode, alignment as a power of two, constant offset. */
export class Load<T extends ValueType> extends Expr<T> {
  readonly opcode: number;
  readonly align: number;
  readonly address: I32;
  readonly offset: number;
  constructor(type: T, opcode: number, align: number, address: I32, offset: number) {
    super(type);
    this.opcode = opcode;
    this.align = align;
    this.address = address;
    this.offset = offset;
  }
  write(out: Bytes): void {
    this.address.write(out);
    writeOpcode(out, this.opcode);
    out.u32(this.align);
    out.u32(this.offset);
  }
}

/** Any other instruction on memory, such as an atomic exchange: an address, then operands. */
export class MemoryOperation<T extends ValueType> extends Load<T> {
  readonly operands: readonly Expr[];
  constructor(type: T, opcode: number, align: number, address: I32, operands: readonly Expr[]) {
    super(type, opcode, align, address, 0);
    this.operands = operands;
  }
  override write(out: Bytes): void {
    this.address.write(out);
    for (const operand of this.operands) operand.write(out);
    writeOpcode(out, this.opcode);
    out.u32(this.align);
    out.u32(this.offset);
  }
}

/** A call of a function by its index. */
export class Call<T extends ValueType> extends Expr<T> {
  readonly index: number;
  readonly operands: readonly Expr[];
  constructor(type: T, index: number, operands: readonly Expr[]) {
    super(type);
    this.index = index;
    this.operands = operands;
  }
  write(out: Bytes): void {
    for (const operand of this.operands) operand.write(out);
    out.byte(0x10);
    out.u32(this.index);
  }
}

/** A call of the function in a slot of table 0. */
export class CallIndirect<T extends ValueType> extends Expr<T> {
  readonly functionType: number;
  readonly slot: I32;
  readonly operands: readonly Expr[];
  constructor(type: T, functionType: number, slot: I32, operands: readonly Expr[]) {
    super(type);
    this.functionType = functionType;
    this.slot = slot;
    this.operands = operands;
  }
  write(out: Bytes): void {
    for (const operand of this.operands) operand.write(out);
    this.slot.write(out);
    out.byte(0x11);
    out.u32(this.functionType);
    out.u32(0);
  }
}

/** `if (condition) a else b` as a value, where only the chosen side is computed. */
export class Choice<T extends ValueType> extends Expr<T> {
  readonly condition: I32;
  readonly a: Expr<T>;
  readonly b: Expr<T>;
  constructor(condition: I32, a: Expr<T>, b: Expr<T>) {
    super(a.type);
    this.condition = condition;
    this.a = a;
    this.b = b;
  }
  write(out: Bytes): void {
    this.condition.write(out);
    out.byte(0x04);
    out.byte(typeCode[this.type]);
    this.a.write(out);
    out.byte(0x05);
    this.b.write(out);
    out.byte(0x0b);
  }
}

export const typeCode: Record<ValueType, number> = { i32: 0x7f, i64: 0x7e, f32: 0x7d, f64: 0x7c, v128: 0x7b };

/** One byte, or a prefix (0xfc, 0xfd, 0xfe) in the upper bits with a LEB128 number below. */
export function writeOpcode(out: Bytes, opcode: number): void {
  if (opcode < 0x100) {
    out.byte(opcode);
    return;
  }
  const prefixed = opcode >= 0x10000 ? 16 : 8;
  out.byte(opcode >> prefixed);
  out.u32(opcode & ((1 << prefixed) - 1));
}
