/**
 * What the meaning of an instruction is written against. A meaning is a function that emits code by way of a
 * {@link Context}; the context decides where operands come from. The interpreter's context reads them from a record in
 * memory, so that one handler serves every instruction of the same shape; the compiler's knows them and folds them in.
 * A meaning therefore looks at the shape of its operands only, never at register numbers or values; but some vector
 * instructions are different ones by their immediate, which then belongs to the shape.
 *
 * Faults are precise: whatever may fault (loads, stores, {@link Context.raiseIf}) comes before the first change of a
 * register or flag. A read-modify-write goes through {@link Context.modify}, which asks for write access first.
 */

import type { VectorFunction } from "../vector-unit/functions.ts";
import type { Code } from "../wasm/code.ts";
import type { Expr, F32, F64, I32, I64, Local, V128 } from "../wasm/expr.ts";
import type { X87Function } from "../x87/quick/functions.ts";
import type { StackKnowledge } from "../x87/quick/knowledge.ts";
import type { Unit } from "./sse/availability.ts";
import type { FloatGuard } from "./sse/checked.ts";
import type { FloatSize } from "./sse/lanes.ts";

/** Sizes in bytes. */
export type IntegerSize = 1 | 2 | 4 | 8;

export type VectorSize = 1 | 2 | 4 | 8 | 16;

/** The lowest lane alone, or all. */
export type FloatLanes = "f32" | "f64" | "f32x4" | "f64x2";

export type Access = "read" | "write";
export type Alignment = "aligned" | "unaligned";

/** What a meaning may know of an operand. */
export interface OperandShape {
  readonly kind: "gpr" | "xmm" | "mm" | "st" | "cr" | "seg" | "mem" | "imm" | "rel";
  /** In bytes. */
  readonly size: number;
  /** Of an immediate among `decidingImmediates`: its bits that matter. The number of a control or segment register. */
  readonly value?: number;
  /** Of a gather's memory: bytes of the vector of indexes. */
  readonly indexBytes?: 16 | 32;
}

/** The halves of 32 bytes: what a ymm register holds. */
export interface Wide {
  readonly low: V128;
  readonly high: V128;
}

/** An integer of up to 32 bits as an i32 whose unused upper bits are 0, one of 64 bits as an i64. */
export type Value = I32 | I64;

/** General registers by their encoding, for instructions that name them implicitly. */
export const Gpr = { RAX: 0, RCX: 1, RDX: 2, RBX: 3, RSP: 4, RBP: 5, RSI: 6, RDI: 7 } as const;

/** An addition or subtraction, without a carry in, and its result. */
export interface Comparison {
  readonly operation: "add" | "sub";
  readonly size: IntegerSize;
  readonly a: Value;
  readonly b: Value;
  readonly result: Value;
}

export interface Context {
  readonly code: Code;
  readonly operands: readonly OperandShape[];
  /** Operand size of the instruction in bytes: 2, 4 or 8. */
  readonly operandSize: IntegerSize;
  /** Address size in bytes: it is also the size of rCX and rSI/rDI in string instructions. */
  readonly addressSize: 2 | 4 | 8;
  /** Width of the stack pointer in bytes. */
  readonly stackSize: 2 | 4 | 8;
  /** Bits of the code segment: 16, 32 or 64. */
  readonly bits: 16 | 32 | 64;
  readonly lock: boolean;
  /** 0, or the prefix byte 0xf2 or 0xf3. */
  readonly rep: number;
  /** What the instruction would need and control registers switch off. */
  readonly missing: Unit | undefined;

  /** The value of operand `index`: see {@link Value}. */
  read(index: number): Value;
  /** The same sign-extended to 64 bits: of memory, in one with the load. */
  readExtended(index: number): I64;
  /** Writes a register or memory operand. A 32-bit register write clears the upper half. */
  write(index: number, value: Value): void;
  /** Replaces operand `index` by what `change` makes of it. With LOCK, atomically. */
  modify(index: number, change: (old: Value) => Value): void;
  /** The same for memory at a linear address. */
  modifyAt(size: IntegerSize, linear: Local<"i64">, change: (old: Value) => Value): void;
  /**
   * The bytes of a vector operand (an xmm or mm register or memory), zeros above its size. Memory of 16 bytes is to be
   * aligned, #GP if it is not, unless the instruction says otherwise.
   */
  readVector(index: number, alignment?: Alignment): V128;
  /** Writes the bytes of a vector operand and leaves the rest of the register. */
  writeVector(index: number, value: V128, alignment?: Alignment): void;
  /** Writes all 16 bytes of an xmm register, however many the operand has. */
  writeWhole(index: number, value: V128): void;
  /** A vector operand of 32 bytes. Memory need not be aligned unless the instruction says so. */
  readWide(index: number, alignment?: Alignment): Wide;
  /** Writes memory of 32 bytes, or all 32 of a vector register, however many the operand has. */
  writeWide(index: number, value: Wide, alignment?: Alignment): void;
  /** A float operand of 4 or 8 bytes: memory, or the lowest lane of an xmm register. */
  readFloat(index: number, size: FloatSize): F32 | F64;
  /** Writes the lowest lane of an xmm register and leaves the others. */
  writeFloat(index: number, size: FloatSize, value: F32 | F64): void;
  /** What results are checked with. */
  floatGuard(size: FloatSize): FloatGuard;
  /**
   * Whether lanes of a register operand are known to be neither denormal nor NaN. Code may rely on it after a call of
   * {@link vectorUnit} on arithmetic, which leaves where it is not so.
   */
  isRegular(index: number, lanes: FloatLanes): boolean;
  /** From here on they are, in the code that follows without a branch. */
  setRegular(index: number, lanes: FloatLanes): void;
  /** An xmm register that the instruction names implicitly. */
  vectorRegister(register: number): V128;
  setVectorRegister(register: number, value: V128): void;
  /** The upper half of a ymm register. */
  setUpperHalf(register: number, value: V128): void;
  loadVector(size: VectorSize, linear: Local<"i64">): V128;
  storeVector(size: VectorSize, linear: Local<"i64">, value: V128): void;
  loadWide(linear: Local<"i64">): Wide;
  storeWide(linear: Local<"i64">, value: Wide): void;
  /** The register of a gather's indexes, whose effective address is without them, and the shift that scales them. */
  indexVector(index: number): Wide;
  indexShift(index: number): I64;
  /** {@link OperandShape.value}. */
  immediate(index: number): number;
  /**
   * What {@link VectorUnit} makes of two or three vectors, in TypeScript: slow and exact. An exception of the operation leaves the
   * instruction.
   */
  vectorUnit(operation: number, a: V128, b: V128, argument?: I32, third?: V128): V128;
  /** A function of vector-unit/functions.ts. */
  vectorFunction(name: VectorFunction, a: V128, b: V128, third?: V128): V128;

  /** The effective address of memory operand `index`, without the segment's base. */
  effectiveAddress(index: number): I64;
  /** The linear address of memory operand `index`, for an access of its size. */
  linearAddress(index: number, access: Access): Local<"i64">;
  /**
   * The linear address of an offset in a segment (0 to 5, or that of the memory operand), checked for an access of so
   * many bytes where the mode has segments that end.
   */
  linear(segment: number | "operand", offset: I64, size: number, access: Access): Local<"i64">;
  load(size: IntegerSize, linear: Local<"i64">): Value;
  store(size: IntegerSize, linear: Local<"i64">, value: Value): void;
  /**
   * Sets bytes to one value: at most so many (below 2^31), within the first one's page and where nobody has to hear of
   * writes; says how many it were. Without segments that end.
   */
  fillAhead(linear: Local<"i64">, bytes: I32, value: I32): Local<"i32">;
  /**
   * The same, a copy of bytes that are in one page, too. Nothing is copied where what was copied first would be copied
   * again.
   */
  copyAhead(to: Local<"i64">, from: Local<"i64">, bytes: I32): Local<"i32">;
  /** Faults as a masked store would whose first and last byte are so many apart, at most 32. */
  tryStore(linear: Local<"i64">, bytes: I32): void;

  /** A register that the instruction names implicitly. */
  gpr(register: number, size: IntegerSize): Value;
  setGpr(register: number, size: IntegerSize, value: Value): void;

  /** Pushes and pops move the stack pointer only after the access has succeeded. */
  push(size: IntegerSize, value: Value): void;
  pop(size: IntegerSize): Value;

  flagResult(): I64;
  flagAux(): I32;
  /** `result` is sign-extended from the operand's size; `aux` as in `Aux`. */
  setFlags(result: I64, aux: I32): void;
  /** Sets the flags of an addition or subtraction: those that `aux` makes, computed now or when asked for. */
  setFlagsOf(comparison: Comparison, aux: () => I32): void;
  /** What the flags follow from, if that is known here: conditions on it need no flags. */
  compared(): Comparison | undefined;
  /** DF and the system flags, in their places. */
  flagRest(): I32;
  setFlagRest(value: I32): void;

  /** The address of this instruction and of the next one. */
  instructionRip(): I64;
  nextRip(): I64;
  /** Ends the block: goes to the relative target of the last operand. */
  jumpRelative(): void;
  /** Ends the block: to the target if the condition holds, else to the next instruction. */
  branchRelative(condition: I32): void;
  /** Ends the block: to an address known only now. */
  jump(target: I64): void;
  /**
   * Runs `body` until it says 0, with a look at what waits (kicks, interrupts) now and then: for REP. `cost`: what a round
   * takes of the budget, after it.
   */
  repeatWhile(body: () => I32, cost?: I32): void;

  /** Raises an exception without changing anything when the condition holds. */
  raiseIf(condition: I32, vector: number): void;
  /**
   * Leaves the instruction to microcode when the condition holds: before anything has changed. For the mnemonics of
   * `hasMicrocode` (table.ts).
   */
  microcodeIf(condition: I32): void;
  /** Leaves the instruction to microcode whatever happens. */
  microcode(): void;

  /** Calls a function of x87/quick/functions.ts. */
  x87Function(name: X87Function, a: I32, b: I32, to: I32, control: I32): I32;
  /** The number of an x87 operand's register, counted from the top of the stack. */
  stackRegister(index: number): I32;

  /** Tags of the x87 registers from the top on: 1 for one that is in use. */
  stackTags(): I32;
  /** Moves the top by some registers; `tags` are those from the new top on. */
  setStack(by: number, tags: I32): void;
  /** Where the x87 register with a number from the top lies. */
  stackAddress(index: I32): I32;
  /** What is known of the x87 registers here, to be kept up by who changes them. */
  stackKnowledge(): StackKnowledge;

  /** The TSC as the guest sees it. */
  timeStamp(): I64;

  /** What a port of 1, 2 or 4 bytes answers, as a float; below 0 where that is not known here, and nothing was asked. */
  portRead(port: I32, size: IntegerSize): F64;
  /** Writes to a port; 0 where that cannot be done here, and was not. */
  portWrite(port: I32, size: IntegerSize, value: I32): I32;
  /** Writes an MSR of the local APIC; 0 where it is another one or cannot be written, and was not. */
  msrWrite(index: I32, low: I32, high: I32): I32;

  /** Where the vCPU's state begins. */
  stateAddress(): I32;
  /** A field of the vCPU's state by its offset. */
  state32(offset: number): I32;
  state64(offset: number): I64;
  setState32(offset: number, value: I32): void;
  setState64(offset: number, value: I64): void;
  /** The bank of lookaside buffers that accesses go by from here on: its address. */
  selectBank(bank: I32): void;
  /** A value used more than once. */
  let<T extends Expr>(value: T): T;
}

/** Emits the code of one instruction. */
export type Meaning = (c: Context) => void;
