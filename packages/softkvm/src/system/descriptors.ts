/** Descriptor tables in guest memory (Intel SDM vol. 3, 3.5 and 5.8). */

import { Seg, SegmentAttribute, State, Vector } from "../cpu/layout.ts";
import { AccessKind } from "../mmu/access.ts";
import type { Processor } from "./processor.ts";
import {
  attributesOf,
  baseOf,
  Descriptor,
  limitOf,
  SegmentType,
  SelectorBits,
  SystemType,
} from "./segment-registers.ts";

/** Where a descriptor was read, to be written back. */
export interface Located extends Descriptor {
  address: number;
}

/** The error code of a fault about a selector: its index and table, and whether an external event is being delivered. */
export function selectorError(cpu: Processor, selector: number): number {
  return (selector & ~SelectorBits.RPL) | cpu.external;
}

export function isNull(selector: number): boolean {
  return (selector & ~SelectorBits.RPL) === 0;
}

/** Reads the descriptor of a selector that is not null; beyond its table it is `vector`(selector). */
export function readDescriptor(cpu: Processor, selector: number, vector: number = Vector.GP): Located {
  const address = locate(cpu, selector, 8, vector);
  const descriptor = new Descriptor(cpu.readSystem(address, 4), cpu.readSystem(address + 4, 4)) as Located;
  descriptor.address = address;
  return descriptor;
}

/** Reads the other half of a descriptor that has 16 bytes in long mode: a TSS, an LDT or a call gate. */
export function readUpperHalf(cpu: Processor, selector: number, descriptor: Located, vector: number = Vector.GP): void {
  locate(cpu, selector, 16, vector);
  descriptor.upperBase = cpu.readSystem(descriptor.address + 8, 4);
  // The type bits of the upper half must be 0, so that it is not taken for a descriptor (3.5.2).
  if (cpu.readSystem(descriptor.address + 12, 4) & 0x1f00) cpu.fault(vector, selectorError(cpu, selector));
}

function locate(cpu: Processor, selector: number, size: number, vector: number): number {
  const { state } = cpu;
  const local = (selector & SelectorBits.TABLE) !== 0;
  const usable = !local || (attributesOf(state, Seg.LDT) & SegmentAttribute.UNUSABLE) === 0;
  const limit = local ? limitOf(state, Seg.LDT) : state.get32(State.gdtLimit);
  const offset = selector & SelectorBits.INDEX;
  if (!usable || offset + size - 1 > limit) cpu.fault(vector, selectorError(cpu, selector));
  return cpu.tableAddress(local ? baseOf(state, Seg.LDT) : state.get64(State.gdtBase), offset);
}

/** Sets the accessed bit of a code or data segment's descriptor, in memory too. */
export function markAccessed(cpu: Processor, descriptor: Located): void {
  setTypeBits(cpu, descriptor, SegmentType.ACCESSED);
}

/** Makes a TSS's descriptor busy, in memory too. */
export function markBusy(cpu: Processor, descriptor: Located): void {
  setTypeBits(cpu, descriptor, SystemType.BUSY);
}

/** Makes the TSS of a selector available again. */
export function markAvailable(cpu: Processor, selector: number): void {
  const descriptor = readDescriptor(cpu, selector, Vector.TS);
  cpu.write(descriptor.address + 4, 4, descriptor.high & ~(SystemType.BUSY << 8), AccessKind.IMPLICIT);
}

function setTypeBits(cpu: Processor, descriptor: Located, bits: number): void {
  if ((descriptor.type & bits) === bits) return;
  descriptor.high |= bits << 8;
  cpu.write(descriptor.address + 4, 4, descriptor.high, AccessKind.IMPLICIT);
}
