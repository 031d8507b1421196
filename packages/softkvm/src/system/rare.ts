/** Instructions of programs that are too rare to compile: decimal arithmetic, PUSHA, ENTER, wide exchanges, random numbers. */

import { Seg, Vector } from "../cpu/layout.ts";
import { Flag } from "../cpu/state.ts";
import type { Instruction } from "../decode/instruction.ts";
import { AccessKind } from "../mmu/access.ts";
import type { Microcode } from "./microcode.ts";
import { linearOf, readRegister, writeOperand, writeRegister } from "./operands.ts";
import { kindOf, type Processor } from "./processor.ts";
import { Stack } from "./stack.ts";

const { CF, PF, AF, ZF, SF, OF } = Flag;
const RAX = 0;

const al = (cpu: Processor) => Number(cpu.state.gpr(RAX) & 0xffn);
const ax = (cpu: Processor) => Number(cpu.state.gpr(RAX) & 0xffffn);
const setAl = (cpu: Processor, value: number) => writeRegister(cpu, RAX, 1, BigInt(value & 0xff));
const setAx = (cpu: Processor, value: number) => writeRegister(cpu, RAX, 2, BigInt(value & 0xffff));

/** SF, ZF and PF of a byte. */
function flagsOf(byte: number): number {
  const value = byte & 0xff;
  const odd = (0x6996 >> ((value ^ (value >> 4)) & 0xf)) & 1;
  return (value & 0x80 ? SF : 0) | (value === 0 ? ZF : 0) | (odd ? 0 : PF);
}

/** Sets the six arithmetic flags. */
function setFlags(cpu: Processor, flags: number): void {
  cpu.state.rflags = (cpu.state.rflags & ~(CF | PF | AF | ZF | SF | OF)) | flags;
}

/** DAA and DAS (Intel SDM vol. 2): a sum or difference of packed decimals put right. OF, undefined, is 0. */
function adjustPacked(sign: 1 | -1): Microcode {
  return (cpu) => {
    const old = al(cpu);
    const { rflags } = cpu.state;
    let value = old;
    let flags = 0;
    if ((old & 0xf) > 9 || rflags & AF) {
      value += 6 * sign;
      // A borrow or carry of the low digit counts as well.
      if (rflags & CF || value < 0 || value > 0xff) flags |= CF;
      flags |= AF;
    }
    if (old > 0x99 || rflags & CF) {
      value += 0x60 * sign;
      flags |= CF;
    } else if (sign === 1) flags &= ~CF;
    setAl(cpu, value);
    setFlags(cpu, flags | flagsOf(value));
  };
}

/** AAA and AAS: unpacked decimals. Flags beside AF and CF, undefined, are those of the new AL. */
function adjustUnpacked(sign: 1 | -1): Microcode {
  return (cpu) => {
    const adjusts = (al(cpu) & 0xf) > 9 || (cpu.state.rflags & AF) !== 0;
    const value = adjusts ? ax(cpu) + sign * 0x106 : ax(cpu);
    setAx(cpu, value & 0xff0f);
    setFlags(cpu, (adjusts ? AF | CF : 0) | flagsOf(value & 0x0f));
  };
}

const base = (instruction: Instruction) => instruction.operands[0]!.value & 0xff;

/** RDRAND and RDSEED: CF says that there was enough randomness, which there always is. */
const random: Microcode = (cpu, instruction) => {
  writeOperand(cpu, instruction, 0, BigInt.asUintN(instruction.operandSize, cpu.hooks.random()));
  setFlags(cpu, CF);
};

/** CMPXCHG8B and 16B: rDX:rAX against memory, rCX:rBX into it. Only ZF changes. */
function exchangeWide(half: 4 | 8): Microcode {
  return (cpu, instruction) => {
    const operand = instruction.operands[0]!;
    const address = linearOf(cpu, instruction, operand, half * 2, true);
    if (half === 8 && address % 16 !== 0) cpu.generalProtection();
    const kind = kindOf(operand.segment) | (instruction.lock ? AccessKind.LOCK : 0);
    // Two accesses under one lock: atomic against others of its kind.
    const low = cpu.readSized(address, half, kind | AccessKind.WRITE);
    const high = cpu.readSized(address + half, half, kind | AccessKind.WRITE);
    const same = low === readRegister(cpu, RAX, half) && high === readRegister(cpu, 2, half);
    // The destination is written in any case.
    cpu.writeSized(address + half, half, same ? readRegister(cpu, 1, half) : high, kind & ~AccessKind.LOCK);
    cpu.writeSized(address, half, same ? readRegister(cpu, 3, half) : low, kind);
    if (!same) {
      writeRegister(cpu, RAX, half, low);
      writeRegister(cpu, 2, half, high);
    }
    cpu.state.rflags = (cpu.state.rflags & ~ZF) | (same ? ZF : 0);
  };
}

/** ENTER: a frame for a procedure that is nested `level` deep in others. */
const enter: Microcode = (cpu, instruction) => {
  const size = (instruction.operandSize / 8) as 2 | 4 | 8;
  const bytes = instruction.operands[0]!.value & 0xffff;
  const level = instruction.operands[1]!.value & 31;
  const stack = new Stack(cpu);
  const RBP = 5;
  stack.push(size, readRegister(cpu, RBP, size));
  const frame = stack.pointer;
  if (level > 0) {
    const outer = new Stack(cpu);
    outer.pointer = BigInt.asUintN(outer.width * 8, cpu.state.gpr(RBP));
    for (let index = 1; index < level; index++) {
      outer.release(-size);
      const link = outer.pointer;
      stack.push(size, outer.pop(size));
      outer.pointer = link;
    }
    stack.push(size, BigInt.asUintN(size * 8, frame));
  }
  stack.release(-bytes);
  // The new top has to be writable, though nothing is written there (SDM, ENTER).
  const top =
    stack.width === 8 ? Number(BigInt.asIntN(64, stack.pointer)) : cpu.linear(Seg.SS, stack.pointer, size, true);
  cpu.probe(top, size, AccessKind.STACK | AccessKind.WRITE);
  writeRegister(cpu, RBP, size, frame);
  stack.commit();
};

export const RARE_INSTRUCTIONS: Record<string, Microcode> = {
  daa: adjustPacked(1),
  das: adjustPacked(-1),
  aaa: adjustUnpacked(1),
  aas: adjustUnpacked(-1),
  aam: (cpu, instruction) => {
    const divisor = base(instruction);
    if (divisor === 0) cpu.fault(Vector.DE);
    const value = al(cpu);
    setAx(cpu, (Math.floor(value / divisor) << 8) | (value % divisor));
    setFlags(cpu, flagsOf(value % divisor));
  },
  aad: (cpu, instruction) => {
    const value = (al(cpu) + (ax(cpu) >> 8) * base(instruction)) & 0xff;
    setAx(cpu, value);
    setFlags(cpu, flagsOf(value));
  },
  salc: (cpu) => setAl(cpu, cpu.state.rflags & CF ? 0xff : 0),
  xlat: (cpu, instruction) => {
    const width = instruction.addressSize / 8;
    const offset = BigInt.asUintN(instruction.addressSize, readRegister(cpu, 3, width) + BigInt(al(cpu)));
    const segment = instruction.segmentOverride >= 0 ? instruction.segmentOverride : Seg.DS;
    setAl(cpu, cpu.read(cpu.linear(segment, offset, 1, false), 1, kindOf(segment)));
  },
  pusha: (cpu, instruction) => {
    const size = (instruction.operandSize / 8) as 2 | 4;
    const stack = new Stack(cpu);
    // RSP goes as it was before.
    for (let register = 0; register < 8; register++) stack.push(size, readRegister(cpu, register, size));
    stack.commit();
  },
  popa: (cpu, instruction) => {
    const size = (instruction.operandSize / 8) as 2 | 4;
    const stack = new Stack(cpu);
    const values = Array.from({ length: 8 }, () => stack.pop(size));
    for (let register = 7; register >= 0; register--) {
      // The image of RSP is passed over.
      if (register !== 4) writeRegister(cpu, register, size, values[7 - register]!);
    }
    stack.commit();
  },
  enter,
  cmpxchg8b: exchangeWide(4),
  cmpxchg16b: exchangeWide(8),
  rdrand: random,
  rdseed: random,
};
