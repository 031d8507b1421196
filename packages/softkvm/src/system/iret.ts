/** IRET in all modes, and the software interrupts (Intel SDM vol. 2, IRET, INT; vol. 3, 6.12 to 6.14 and 22.3). */

import { Seg, Vector } from "../cpu/layout.ts";
import { CpuState, Flag } from "../cpu/state.ts";
import type { Instruction } from "../decode/instruction.ts";
import { markAccessed } from "./descriptors.ts";
import { deliverSoft } from "./exceptions.ts";
import { checkTarget, planOuterStack, readReturnCode, setCodeParagraph } from "./far.ts";
import type { Microcode } from "./microcode.ts";
import { DATA_SEGMENTS, linearOf, readRegister } from "./operands.ts";
import { kindOf, type Processor } from "./processor.ts";
import { baseOf, SelectorBits, setFromDescriptor, setVirtual8086 } from "./segment-registers.ts";
import { dropInnerSegment } from "./segments.ts";
import { commitPointer, Stack } from "./stack.ts";
import { switchTask } from "./task-switch.ts";

type Size = 2 | 4 | 8;

/** What IRET and POPF may change whoever runs. */
const ALWAYS = CpuState.arithmetic | Flag.AF | Flag.TF | Flag.DF | Flag.NT | Flag.RF | Flag.AC | Flag.ID;

/**
 * The flags after an image of 2, 4 or 8 bytes is loaded: IF only with enough privilege, IOPL, VIF and VIP only in ring
 * 0. `kept`: bits that this instruction does not take from the image.
 */
export function mergeFlags(cpu: Processor, image: bigint, size: Size, kept: number): number {
  const old = cpu.state.rflags;
  let mask: number = ALWAYS;
  if (cpu.cpl <= cpu.iopl) mask |= Flag.IF;
  if (cpu.cpl === 0) mask |= Flag.IOPL | Flag.VIF | Flag.VIP;
  if (size === 2) mask &= 0xffff;
  mask &= ~kept;
  return (Number(image & 0xffffffffn) & mask) | (old & ~mask);
}

/** After an IRET, NMIs may come again, whatever became of it. */
function unmaskNmi(cpu: Processor): void {
  if (!cpu.events.nmiMasked) return;
  cpu.events.nmiMasked = false;
  cpu.hooks.interruptsMayFlow();
}

function finish(cpu: Processor, flags: number): void {
  const allowed = flags & ~cpu.systemFlags & Flag.IF;
  cpu.state.rflags = flags;
  unmaskNmi(cpu);
  cpu.modeMayHaveChanged();
  if (allowed) cpu.hooks.interruptsMayFlow();
}

const iret: Microcode = (cpu, instruction) => {
  const size = (instruction.operandSize / 8) as Size;
  if (!cpu.isProtected) iretReal(cpu, size);
  else if (cpu.vm86) iretVirtual8086(cpu, size);
  else if (cpu.systemFlags & Flag.NT) iretTask(cpu);
  else iretProtected(cpu, size);
};

function iretReal(cpu: Processor, size: Size): void {
  const stack = new Stack(cpu);
  const ip = stack.pop(size);
  const cs = stack.popSelector(size);
  const image = stack.pop(size);
  setCodeParagraph(cpu, cs, ip);
  stack.commit();
  finish(cpu, mergeFlags(cpu, image, size, Flag.VIF | Flag.VIP));
}

function iretVirtual8086(cpu: Processor, size: Size): void {
  if (cpu.iopl !== 3) cpu.generalProtection();
  const stack = new Stack(cpu);
  const ip = stack.pop(size);
  const cs = stack.popSelector(size);
  const image = stack.pop(size);
  setCodeParagraph(cpu, cs, ip);
  stack.commit();
  finish(cpu, mergeFlags(cpu, image, size, Flag.IOPL | Flag.VIF | Flag.VIP));
}

/** A nested task goes back to the one that its TSS names. */
function iretTask(cpu: Processor): void {
  if (cpu.longMode) cpu.generalProtection();
  const link = cpu.readSystem(cpu.tableAddress(baseOf(cpu.state, Seg.TR), 0), 2);
  switchTask(cpu, link, "iret");
  unmaskNmi(cpu);
}

function iretProtected(cpu: Processor, size: Size): void {
  const { state } = cpu;
  const stack = new Stack(cpu);
  const rip = stack.pop(size);
  const selector = stack.popSelector(size);
  const image = stack.pop(size);
  if (Number(image & 0xffffffffn) & Flag.VM && size === 4 && cpu.cpl === 0 && !cpu.longMode) {
    iretToVirtual8086(cpu, stack, rip, selector, image);
    return;
  }
  const code = readReturnCode(cpu, selector);
  const level = selector & SelectorBits.RPL;
  // 64-bit mode always returns to another stack.
  const switches = level !== cpu.cpl || cpu.bits64;
  const pointer = switches ? stack.pop(size) : 0n;
  const plan = switches ? planOuterStack(cpu, stack.popSelector(size), level, code) : undefined;
  checkTarget(cpu, code, rip);
  markAccessed(cpu, code);
  const flags = mergeFlags(cpu, image, size, Flag.VM);
  const outer = level !== cpu.cpl;

  plan?.();
  setFromDescriptor(state, Seg.CS, selector, code);
  cpu.cpl = level;
  cpu.rip = rip;
  cpu.modeMayHaveChanged();
  if (switches) commitPointer(cpu, pointer, returnWidth(cpu, size));
  else stack.commit();
  if (outer) for (const segment of DATA_SEGMENTS) dropInnerSegment(cpu, segment, level);
  finish(cpu, flags);
}

/** How much of RSP the pointer that IRET popped replaces: as much as was popped, or as the new stack has. */
function returnWidth(cpu: Processor, size: Size): Size {
  return cpu.stackWidth === 2 ? 2 : size === 8 ? 8 : 4;
}

function iretToVirtual8086(cpu: Processor, stack: Stack, rip: bigint, selector: number, image: bigint): void {
  const { state } = cpu;
  const pointer = stack.pop(4);
  const [ss, es, ds, fs, gs] = [0, 1, 2, 3, 4].map(() => stack.popSelector(4));
  if (rip > 0xffffn) cpu.generalProtection();
  // All of it: ring 0 may set any flag.
  const flags = mergeFlags(cpu, image, 4, 0) | Flag.VM;
  setVirtual8086(state, Seg.CS, selector);
  setVirtual8086(state, Seg.SS, ss!);
  setVirtual8086(state, Seg.ES, es!);
  setVirtual8086(state, Seg.DS, ds!);
  setVirtual8086(state, Seg.FS, fs!);
  setVirtual8086(state, Seg.GS, gs!);
  cpu.cpl = 3;
  cpu.rip = rip;
  state.setGpr(4, pointer);
  finish(cpu, flags);
}

/** In virtual-8086 mode INT n needs IOPL 3; the virtual mode extensions (CR4.VME) are not offered. */
function softwareInterrupt(cpu: Processor, vector: number): void {
  if (cpu.vm86 && cpu.iopl !== 3) cpu.generalProtection();
  deliverSoft(cpu, vector, true);
}

function immediate(instruction: Instruction): number {
  return instruction.operands[0].value & 0xff;
}

/** BOUND: #BR for an index outside of the two signed bounds in memory. */
function checkBounds(cpu: Processor, instruction: Instruction): void {
  const size = instruction.operandSize / 8;
  const bits = instruction.operandSize;
  const [index, bounds] = instruction.operands;
  const bound = (at: number): bigint => {
    const address = linearOf(cpu, instruction, bounds, size, false, at);
    return BigInt.asIntN(bits, cpu.readSized(address, size, kindOf(bounds.segment)));
  };
  const value = BigInt.asIntN(bits, readRegister(cpu, index.reg, size));
  if (value < bound(0) || value > bound(size)) cpu.fault(Vector.BR);
}

export const INTERRUPT_INSTRUCTIONS: Record<string, Microcode> = {
  iret,
  int: (cpu, instruction) => softwareInterrupt(cpu, immediate(instruction)),
  int3: (cpu) => deliverSoft(cpu, Vector.BP, true),
  into: (cpu) => {
    if (cpu.state.rflags & Flag.OF) deliverSoft(cpu, Vector.OF, true);
  },
  // A debug exception, with no bit of DR6; nobody checks the gate's privilege.
  icebp: (cpu) => deliverSoft(cpu, Vector.DB, false),
  bound: checkBounds,
  ud0: (cpu) => cpu.undefinedInstruction(),
  ud1: (cpu) => cpu.undefinedInstruction(),
  ud2: (cpu) => cpu.undefinedInstruction(),
  // Outside of system management mode.
  rsm: (cpu) => cpu.undefinedInstruction(),
};
