/** The interpreter's view of an instruction: addresses and memory, by way of the lookaside buffer. */

import { Seg, SegmentRange, State, Tlb, Vector } from "../cpu/layout.ts";
import { AccessKind } from "../mmu/access.ts";
import { entryOffset } from "../mmu/lookaside-entry.ts";
import type { Access, IntegerSize, Value } from "../semantics/context.ts";
import { fromI64, zeroExtend } from "../semantics/words.ts";
import { ConstI32, type Expr, type I32, type I64, type Local } from "../wasm/expr.ts";
import { c32, c64, call, compareExchange, i32, i64, select } from "../wasm/ops.ts";
import { Record } from "./record.ts";
import { loads, maskTo, RecordState, storeKinds } from "./record-state.ts";

/** The host address that stands for "by the slow path". */
const SLOW = c32(-1);

export abstract class RecordMemory extends RecordState {
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

  fillAhead(linear: Local<"i64">, bytes: I32, value: I32): Local<"i32"> {
    const { code } = this;
    const filled = code.let(c32(0));
    const { miss, addend } = this.lookaside(1, linear, Tlb.write);
    code.if(i32.eqz(miss), () => {
      code.set(filled, least(bytes, code.let(restOfPage(linear))));
      code.fill(i32.add(i32.wrap(linear), addend), value, filled);
    });
    return filled;
  }

  copyAhead(to: Local<"i64">, from: Local<"i64">, bytes: I32): Local<"i32"> {
    const { code } = this;
    const copied = code.let(c32(0));
    const source = this.lookaside(1, from, Tlb.read);
    const target = this.lookaside(1, to, Tlb.write);
    code.if(i32.eqz(i32.or(source.miss, target.miss)), () => {
      const most = code.let(least(bytes, code.let(restOfPage(to))));
      code.set(most, least(most, code.let(restOfPage(from))));
      const hostFrom = code.let(i32.add(i32.wrap(from), source.addend));
      const hostTo = code.let(i32.add(i32.wrap(to), target.addend));
      // Where the target is shortly behind its source: two addresses may also be of one page.
      code.if(i32.ge_u(i32.sub(hostTo, hostFrom), most), () => {
        code.set(copied, most);
        code.copy(hostTo, hostFrom, most);
      });
    });
    return copied;
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
    const index = entryOffset(linear);
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

  protected slowStore(size: IntegerSize, linear: Local<"i64">, value: Value, kind = 0): void {
    this.code.store(storeKinds[size], this.address(State.transfer), 0, value);
    this.slow(this.outside.store, linear, size, kind);
  }

  protected checkAlignment(linear: Local<"i64">, bytes: 16 | 32 = 16): void {
    this.raiseIf(i32.and(i32.wrap(linear), c32(bytes - 1)), Vector.GP);
  }

  protected lastByte(linear: I64, bytes: I32): Local<"i64"> {
    return this.local(i64.add(linear, i64.extend_i32_u(i32.sub(bytes, c32(1)))));
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
}

const least = (a: I32, b: I32): I32 => select(i32.lt_u(a, b), a, b);

/** Bytes from an address to the end of its page. */
const restOfPage = (linear: I64): I32 => i32.sub(c32(4096), i32.and(i32.wrap(linear), c32(4095)));

const callI32 = (index: number, ...operands: Expr[]): I32 => call("i32", index, ...operands);
