/** Segment registers in the state, and descriptors as they lie in memory (Intel SDM vol. 3, 3.4.3 and 3.4.5). */

import { Seg, SegmentAttribute, SegmentField, State } from "../cpu/layout.ts";
import type { CpuState } from "../cpu/state.ts";

const { TYPE, S, DPL_SHIFT, PRESENT, GRANULARITY, UNUSABLE, LONG, DEFAULT_32 } = SegmentAttribute;

/** Bits of a code or data segment's type (3.4.5.1). */
export const SegmentType = {
  ACCESSED: 0x1,
  /** Of data. */
  WRITABLE: 0x2,
  EXPAND_DOWN: 0x4,
  /** Of code. */
  READABLE: 0x2,
  CONFORMING: 0x4,
  CODE: 0x8,
} as const;

/** Types of system descriptors (3.5). In long mode a TSS, LDT or gate has 16 bytes. */
export const SystemType = {
  TSS_16: 1,
  LDT: 2,
  TSS_16_BUSY: 3,
  CALL_GATE_16: 4,
  TASK_GATE: 5,
  INTERRUPT_GATE_16: 6,
  TRAP_GATE_16: 7,
  TSS_32: 9,
  TSS_32_BUSY: 11,
  CALL_GATE_32: 12,
  INTERRUPT_GATE_32: 14,
  TRAP_GATE_32: 15,
  /** What makes an available TSS a busy one. */
  BUSY: 2,
} as const;

/** Bits of a selector. */
export const SelectorBits = { RPL: 3, TABLE: 4, INDEX: 0xfff8 } as const;

function at(segment: number): number {
  return State.segments + segment * SegmentField.size;
}

export function selectorOf(state: CpuState, segment: number): number {
  return state.get32(at(segment) + SegmentField.selector);
}
export function setSelector(state: CpuState, segment: number, selector: number): void {
  state.set32(at(segment) + SegmentField.selector, selector);
}
export function baseOf(state: CpuState, segment: number): bigint {
  return state.get64(at(segment) + SegmentField.base);
}
export function setBase(state: CpuState, segment: number, base: bigint): void {
  state.set64(at(segment) + SegmentField.base, base);
}
export function limitOf(state: CpuState, segment: number): number {
  return state.get32(at(segment) + SegmentField.limit);
}
export function attributesOf(state: CpuState, segment: number): number {
  return state.get32(at(segment) + SegmentField.attributes);
}
export function setAttributes(state: CpuState, segment: number, attributes: number): void {
  state.set32(at(segment) + SegmentField.attributes, attributes);
}

export function setSegment(
  state: CpuState,
  segment: number,
  selector: number,
  base: bigint,
  limit: number,
  attributes: number,
): void {
  const offset = at(segment);
  state.set64(offset + SegmentField.base, base);
  state.set32(offset + SegmentField.limit, limit);
  state.set32(offset + SegmentField.selector, selector);
  state.set32(offset + SegmentField.attributes, attributes);
}

/** A descriptor of 8 bytes as its two halves, and what they say. */
export class Descriptor {
  low: number;
  high: number;
  /** Bits 32 to 63 of the base, from the second half of a 16-byte descriptor. */
  upperBase = 0;

  constructor(low = 0, high = 0) {
    this.low = low;
    this.high = high;
  }

  /** As {@link SegmentField.attributes} has it. */
  get attributes(): number {
    return (this.high >>> 8) & 0xf0ff;
  }
  get type(): number {
    return (this.high >>> 8) & TYPE;
  }
  /** A code or data segment; else a system descriptor. */
  get isSegment(): boolean {
    return (this.attributes & S) !== 0;
  }
  get dpl(): number {
    return (this.attributes >>> DPL_SHIFT) & 3;
  }
  get present(): boolean {
    return (this.attributes & PRESENT) !== 0;
  }
  get isLong(): boolean {
    return (this.attributes & LONG) !== 0;
  }
  get is32Bit(): boolean {
    return (this.attributes & DEFAULT_32) !== 0;
  }
  get isCode(): boolean {
    return this.isSegment && (this.type & SegmentType.CODE) !== 0;
  }
  get isConforming(): boolean {
    return (this.type & SegmentType.CONFORMING) !== 0;
  }
  /** Code that can be read, or data. */
  get isReadable(): boolean {
    return this.isSegment && ((this.type & SegmentType.CODE) === 0 || (this.type & SegmentType.READABLE) !== 0);
  }
  get isWritable(): boolean {
    return this.isSegment && (this.type & SegmentType.CODE) === 0 && (this.type & SegmentType.WRITABLE) !== 0;
  }

  get base(): bigint {
    const low = (((this.low >>> 16) | ((this.high & 0xff) << 16) | (this.high & 0xff000000)) >>> 0) as number;
    return BigInt(low) | (BigInt(this.upperBase) << 32n);
  }
  /** In bytes. */
  get limit(): number {
    const raw = (this.low & 0xffff) | (this.high & 0xf0000);
    return (this.attributes & GRANULARITY ? raw * 4096 + 4095 : raw) >>> 0;
  }

  /** Of a gate (5.8.3, 6.11): where it leads. Bits 32 to 63 of the offset stand in {@link upperBase}. */
  get gateOffset(): bigint {
    return BigInt(((this.low & 0xffff) | (this.high & 0xffff0000)) >>> 0) | (BigInt(this.upperBase) << 32n);
  }
  get gateSelector(): number {
    return this.low >>> 16;
  }
  /** Of an interrupt gate in long mode: which stack of the TSS's list, 0 for none (6.14.5). */
  get gateStack(): number {
    return this.high & 7;
  }
  /** Of a call gate: how many parameters are copied. */
  get gateParameters(): number {
    return this.high & 31;
  }
}

/** Puts a descriptor into a segment register. */
export function setFromDescriptor(state: CpuState, segment: number, selector: number, descriptor: Descriptor): void {
  setSegment(state, segment, selector, descriptor.base, descriptor.limit, descriptor.attributes);
}

/** A null selector's register: unusable. In 64-bit mode SS keeps the privilege level in it, as virtualization shows. */
export function setNull(state: CpuState, segment: number, selector: number): void {
  const dpl = segment === Seg.SS ? (selector & SelectorBits.RPL) << DPL_SHIFT : 0;
  setSegment(state, segment, selector, 0n, 0, UNUSABLE | dpl);
}

/** Real-address mode changes only the base and the selector; limit and attributes stay (22.1.1 "unreal mode"). */
export function setReal(state: CpuState, segment: number, selector: number): void {
  setSelector(state, segment, selector);
  setBase(state, segment, BigInt(selector * 16));
}

/** Virtual-8086: 64 KiB from the selector times 16, read-write, ring 3. */
export function setVirtual8086(state: CpuState, segment: number, selector: number): void {
  setSegment(state, segment, selector, BigInt(selector * 16), 0xffff, VM86_ATTRIBUTES);
}
const VM86_ATTRIBUTES = PRESENT | (3 << DPL_SHIFT) | S | SegmentType.WRITABLE | SegmentType.ACCESSED;
