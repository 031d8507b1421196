/**
 * A stack that microcode pushes to and pops from. It moves a pointer of its own: RSP follows when the instruction
 * commits. What was pushed before a fault stays in memory below RSP, as on the processor.
 */

import { Seg, Vector } from "../cpu/layout.ts";
import { AccessKind } from "../mmu/access.ts";
import { linear64, type Processor } from "./processor.ts";
import type { Descriptor } from "./segment-registers.ts";
import { SegmentType } from "./segment-registers.ts";

const RSP = 4;

/** An SS that is not loaded yet. */
export interface NewStack {
  readonly selector: number;
  readonly descriptor: Descriptor;
}

export class Stack {
  pointer: bigint;
  /** 8, 4 or 2 bytes of the pointer count. */
  readonly width: 2 | 4 | 8;
  readonly #cpu: Processor;
  readonly #kind: number;
  readonly #next: NewStack | undefined;

  /**
   * The stack in force; or another one: `pointer` in 64-bit mode, `pointer` in `next` elsewhere. `level`: the privilege
   * level of the accesses, when it is not the current one.
   */
  constructor(cpu: Processor, other?: { pointer: bigint; next?: NewStack; level: number; width?: 2 | 4 | 8 }) {
    this.#cpu = cpu;
    this.#next = other?.next;
    this.width = other?.width ?? (other?.next ? (other.next.descriptor.is32Bit ? 4 : 2) : cpu.stackWidth);
    this.pointer = this.#mask(other ? other.pointer : cpu.state.gpr(RSP));
    const supervisor = other !== undefined && other.level !== 3 && cpu.cpl === 3;
    this.#kind = AccessKind.STACK | (supervisor ? AccessKind.IMPLICIT : 0);
  }

  push(size: 2 | 4 | 8, value: bigint): void {
    const pointer = this.#mask(this.pointer - BigInt(size));
    this.#cpu.writeSized(this.#linear(pointer, size, true), size, value, this.#kind);
    this.pointer = pointer;
  }

  /** Checks that so many bytes can be pushed before the first of them is. */
  reserve(bytes: number): void {
    const pointer = this.#mask(this.pointer - BigInt(bytes));
    // A frame that wraps around the segment's end is checked piece by piece as it is pushed.
    if (pointer > this.pointer) return;
    this.#cpu.probe(this.#linear(pointer, bytes, true), bytes, this.#kind | AccessKind.WRITE);
  }

  pop(size: 2 | 4 | 8): bigint {
    const value = this.#cpu.readSized(this.#linear(this.pointer, size, false), size, this.#kind);
    this.release(size);
    return value;
  }
  /** Pops a selector: the upper bytes of its slot are not read as a value. */
  popSelector(size: 2 | 4 | 8): number {
    return Number(this.pop(size) & 0xffffn);
  }
  release(bytes: number): void {
    this.pointer = this.#mask(this.pointer + BigInt(bytes));
  }

  /** Sets RSP: only the bits that count. */
  commit(): void {
    commitPointer(this.#cpu, this.pointer, this.width);
  }

  #linear(pointer: bigint, size: number, write: boolean): number {
    if (this.width === 8) return linear64(pointer);
    if (this.#next === undefined) return this.#cpu.linear(Seg.SS, pointer, size, write);
    const { descriptor, selector } = this.#next;
    const first = Number(pointer);
    const last = first + size - 1;
    const down = (descriptor.type & SegmentType.EXPAND_DOWN) !== 0;
    const inside = down
      ? first > descriptor.limit && last <= (descriptor.is32Bit ? 0xffffffff : 0xffff)
      : last <= descriptor.limit;
    if (!inside) this.#cpu.fault(Vector.SS, (selector & ~3) | this.#cpu.external);
    return Number(BigInt.asUintN(32, descriptor.base + pointer));
  }

  #mask(pointer: bigint): bigint {
    return BigInt.asUintN(this.width * 8, pointer);
  }
}

/** Sets the bits of RSP that a stack of this width uses. */
export function commitPointer(cpu: Processor, pointer: bigint, width: 2 | 4 | 8): void {
  const kept = width === 2 ? cpu.state.gpr(RSP) & ~0xffffn : 0n;
  cpu.state.setGpr(RSP, kept | BigInt.asUintN(width * 8, pointer));
}
