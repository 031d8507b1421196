/** What the processor reads from a task-state segment outside of task switches (Intel SDM vol. 3, 7.2 and 7.7). */

import { Seg, Vector } from "../cpu/layout.ts";
import { isNull, type Located, readDescriptor, selectorError } from "./descriptors.ts";
import type { Processor } from "./processor.ts";
import { attributesOf, baseOf, limitOf, SelectorBits, SystemType, selectorOf } from "./segment-registers.ts";
import { checkStack } from "./segments.ts";

/** A 32-bit TSS (7.2.1): offsets. */
export const Tss32 = {
  link: 0,
  /** Ring n's ESP, and its SS behind it. */
  stacks: 4,
  stackSize: 8,
  cr3: 28,
  eip: 32,
  eflags: 36,
  /** EAX to EDI in the order of their encoding. */
  registers: 40,
  /** ES, CS, SS, DS, FS, GS. */
  segments: 72,
  ldt: 96,
  trap: 100,
  ioMap: 102,
  limit: 0x67,
} as const;

/** A 16-bit TSS (7.6). */
export const Tss16 = {
  link: 0,
  stacks: 2,
  stackSize: 4,
  ip: 14,
  flags: 16,
  registers: 18,
  segments: 34,
  ldt: 42,
  limit: 0x2b,
} as const;

/** A 64-bit TSS (7.7). */
export const Tss64 = { stacks: 4, interruptStacks: 36, ioMap: 102 } as const;

export function tssIs32(cpu: Processor): boolean {
  return (attributesOf(cpu.state, Seg.TR) & SystemType.TSS_32) === SystemType.TSS_32;
}

export interface InnerStack {
  readonly selector: number;
  readonly descriptor: Located;
  readonly pointer: bigint;
}

/** The stack that the TSS names for a more privileged ring, outside long mode (5.8.5). */
export function innerStack(cpu: Processor, level: number): InnerStack {
  const wide = tssIs32(cpu);
  const layout = wide ? Tss32 : Tss16;
  const offset = layout.stacks + level * layout.stackSize;
  const half = layout.stackSize / 2;
  const base = tssField(cpu, offset, layout.stackSize);
  const pointer = BigInt(cpu.readSystem(base, half as 2 | 4));
  const selector = cpu.readSystem(base + half, 2);
  if (isNull(selector)) cpu.fault(Vector.TS, cpu.external);
  const descriptor = readDescriptor(cpu, selector, Vector.TS);
  checkStack(cpu, selector, descriptor, level, Vector.TS);
  return { selector, descriptor, pointer };
}

/** RSP for a more privileged ring in long mode, or of the interrupt stack table where `ist` is not 0. */
export function innerPointer(cpu: Processor, level: number, ist = 0): bigint {
  const offset = ist === 0 ? Tss64.stacks + level * 8 : Tss64.interruptStacks + (ist - 1) * 8;
  return cpu.readSystem64(tssField(cpu, offset, 8));
}

function tssField(cpu: Processor, offset: number, size: number): number {
  if (offset + size - 1 > limitOf(cpu.state, Seg.TR)) {
    cpu.fault(Vector.TS, selectorError(cpu, selectorOf(cpu.state, Seg.TR) & ~SelectorBits.RPL));
  }
  return cpu.tableAddress(baseOf(cpu.state, Seg.TR), offset);
}
