/** Ports (Intel SDM vol. 1, chapter 19): who may use them, and IN, OUT, INS and OUTS. */

import { Seg } from "../cpu/layout.ts";
import { Flag } from "../cpu/state.ts";
import type { Instruction } from "../decode/instruction.ts";
import { AccessKind } from "../mmu/access.ts";
import { Bus } from "../mmu/mmio.ts";
import { GUEST_EXIT } from "./faults.ts";
import type { Microcode } from "./microcode.ts";
import { Gpr, readRegister, writeRegister } from "./operands.ts";
import { kindOf, type Processor } from "./processor.ts";
import { attributesOf, baseOf, limitOf, SystemType } from "./segment-registers.ts";
import { Tss32 } from "./tss.ts";

const PAGE = 4096;
const RCX = Gpr.RCX;

/** Above the IOPL, and in virtual-8086 mode, the TSS has a bit for each port: 0 allows (19.5.2). */
function requirePort(cpu: Processor, port: number, size: number): void {
  if (!cpu.isProtected || (cpu.cpl <= cpu.iopl && !cpu.vm86)) return;
  const { state } = cpu;
  const limit = limitOf(state, Seg.TR);
  const wide = (attributesOf(state, Seg.TR) & SystemType.TSS_32) === SystemType.TSS_32;
  if (!wide || limit < Tss32.ioMap + 1) cpu.generalProtection();
  const map = cpu.readSystem(cpu.tableAddress(baseOf(state, Seg.TR), Tss32.ioMap), 2);
  const at = map + (port >>> 3);
  // Two bytes are read, so that unaligned ports of more bytes need no more.
  if (at + 1 > limit) cpu.generalProtection();
  const bits = cpu.readSystem(cpu.tableAddress(baseOf(state, Seg.TR), at), 2);
  if ((bits >>> (port & 7)) & ((1 << size) - 1)) cpu.generalProtection();
}

/** Reads a port through the device of this thread, or through the monitor; undefined: that has to be asked. */
function input(cpu: Processor, port: number, size: number): number | undefined {
  const { mmio } = cpu.memory;
  if (!mmio.replaying) {
    const value = cpu.hooks.readPort(port, size, 1);
    if (value !== undefined) return value;
  }
  const data = mmio.request(Bus.PORT, port, size, false, 1);
  return data && element(data, 0, size);
}

/** False: the monitor has to be asked. */
function output(cpu: Processor, port: number, size: number, value: number): boolean {
  const { mmio } = cpu.memory;
  if (!mmio.replaying && cpu.hooks.writePort(port, size, value, 1)) return true;
  const data = new Uint8Array(size);
  putElement(data, 0, size, value);
  return mmio.request(Bus.PORT, port, size, true, 1, data) !== undefined;
}

function element(data: Uint8Array, index: number, size: number): number {
  let value = 0;
  for (let byte = size - 1; byte >= 0; byte--) value = value * 256 + data[index * size + byte]!;
  return value;
}
function putElement(data: Uint8Array, index: number, size: number, value: number): void {
  for (let byte = 0; byte < size; byte++) data[index * size + byte] = value >>> (byte * 8);
}

/** The port of an operand: an immediate byte or DX. */
function portOf(cpu: Processor, instruction: Instruction, index: number): number {
  const operand = instruction.operands[index]!;
  return operand.kind === "imm" ? operand.value & 0xff : Number(cpu.state.gpr(Gpr.RDX) & 0xffffn);
}

const inInstruction: Microcode = (cpu, instruction) => {
  const [target] = instruction.operands;
  const port = portOf(cpu, instruction, 1);
  requirePort(cpu, port, target.size);
  const value = input(cpu, port, target.size);
  if (value === undefined) return GUEST_EXIT;
  return writeRegister(cpu, Gpr.RAX, target.size, BigInt(value));
};

const outInstruction: Microcode = (cpu, instruction) => {
  const [, source] = instruction.operands;
  const port = portOf(cpu, instruction, 0);
  requirePort(cpu, port, source.size);
  const isDone = output(cpu, port, source.size, Number(readRegister(cpu, Gpr.RAX, source.size)));
  return isDone ? undefined : GUEST_EXIT;
};

/** One round of a string instruction: consecutive elements within a page. */
interface Round {
  readonly port: number;
  readonly size: number;
  /** Elements of this round; 0 when rCX is 0. */
  readonly count: number;
  readonly address: number;
  readonly pointer: bigint;
}

/**
 * What INS or OUTS can do at once: with REP all that lies on the page, so that the monitor is asked once for many
 * elements; backwards and without REP one element.
 */
function planRound(cpu: Processor, instruction: Instruction, index: number, pointerRegister: number): Round {
  const operand = instruction.operands[index]!;
  const { size } = operand;
  const width = instruction.addressSize / 8;
  const port = Number(cpu.state.gpr(Gpr.RDX) & 0xffffn);
  const left = instruction.rep === 0 ? 1n : readRegister(cpu, RCX, width);
  const pointer = readRegister(cpu, pointerRegister, width);
  if (left === 0n) return { port, size, count: 0, address: 0, pointer };
  requirePort(cpu, port, size);
  const write = index === 0;
  const address = cpu.linear(operand.segment, pointer, size, write);
  const backwards = (cpu.systemFlags & Flag.DF) !== 0;
  const room = Math.floor((PAGE - (address & (PAGE - 1))) / size);
  const wrap = (1n << BigInt(instruction.addressSize)) - pointer;
  let count = backwards ? 1 : Math.max(1, room);
  if (left < BigInt(count)) count = Number(left);
  if (wrap < BigInt(count * size)) count = 1;
  // All of it in the segment, or one element after the other until the one that is not.
  if (count > 1 && !inSegment(cpu, operand.segment, pointer, count * size, write)) count = 1;
  return { port, size, count, address, pointer };
}

function inSegment(cpu: Processor, segment: number, pointer: bigint, bytes: number, write: boolean): boolean {
  if (cpu.bits64) return true;
  return cpu.inRange(segment, Number(pointer), bytes, write);
}

/** Moves the pointer and the count; the instruction is not over while elements are left. */
function finishRound(cpu: Processor, instruction: Instruction, round: Round, pointerRegister: number): void {
  const width = instruction.addressSize / 8;
  const step = BigInt(round.count * round.size);
  const backwards = (cpu.systemFlags & Flag.DF) !== 0;
  writeRegister(cpu, pointerRegister, width, backwards ? round.pointer - step : round.pointer + step);
  if (instruction.rep === 0) return;
  const left = BigInt.asUintN(width * 8, readRegister(cpu, RCX, width) - BigInt(round.count));
  writeRegister(cpu, RCX, width, left);
  if (left !== 0n) cpu.rip = cpu.instructionRip;
}

const ins: Microcode = (cpu, instruction) => {
  const round = planRound(cpu, instruction, 0, Gpr.RDI);
  const { port, size, count, address } = round;
  if (count === 0) return;
  // Before the device is read: what it gave could not be put back.
  cpu.probe(address, count * size, AccessKind.WRITE);
  const { mmio } = cpu.memory;
  const local = mmio.replaying ? undefined : cpu.hooks.readPort(port, size, count);
  if (local !== undefined) {
    cpu.write(address, size as 1 | 2 | 4, local);
    finishRound(cpu, instruction, { ...round, count: 1 }, Gpr.RDI);
    return;
  }
  const data = mmio.request(Bus.PORT, port, size, false, count);
  if (data === undefined) throw GUEST_EXIT;
  for (let index = 0; index < count; index++) {
    cpu.write(address + index * size, size as 1 | 2 | 4, element(data, index, size));
  }
  finishRound(cpu, instruction, round, Gpr.RDI);
};

const outs: Microcode = (cpu, instruction) => {
  const round = planRound(cpu, instruction, 1, Gpr.RSI);
  const { port, size, count, address } = round;
  if (count === 0) return;
  const kind = kindOf(instruction.operands[1].segment);
  const { mmio } = cpu.memory;
  const first = cpu.read(address, size as 1 | 2 | 4, kind);
  if (!mmio.replaying && cpu.hooks.writePort(port, size, first, count)) {
    finishRound(cpu, instruction, { ...round, count: 1 }, Gpr.RSI);
    return;
  }
  const data = new Uint8Array(count * size);
  putElement(data, 0, size, first);
  for (let index = 1; index < count; index++) {
    putElement(data, index, size, cpu.read(address + index * size, size as 1 | 2 | 4, kind));
  }
  if (mmio.request(Bus.PORT, port, size, true, count, data) === undefined) throw GUEST_EXIT;
  finishRound(cpu, instruction, round, Gpr.RSI);
};

export const IO_INSTRUCTIONS: Record<string, Microcode> = {
  in: inInstruction,
  out: outInstruction,
  ins,
  outs,
};
