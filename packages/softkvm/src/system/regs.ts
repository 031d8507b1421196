/** The general registers as KVM has them. */

import type { DebugRegs, Regs } from "@lodge/kvm";
import { State } from "../cpu/layout.ts";
import { Flag } from "../cpu/state.ts";
import { derivePrivilege } from "./mode.ts";
import type { Processor } from "./processor.ts";

/** By their encoding. */
const NAMES = [
  ...(["rax", "rcx", "rdx", "rbx", "rsp", "rbp", "rsi", "rdi"] as const),
  ...(["r8", "r9", "r10", "r11", "r12", "r13", "r14", "r15"] as const),
] as const;

export function getRegs(cpu: Processor): Regs {
  const regs: Partial<Regs> = { rip: cpu.rip, rflags: BigInt(cpu.state.rflags) };
  for (const [index, name] of NAMES.entries()) regs[name] = cpu.state.gpr(index);
  return regs as Regs;
}

/** As in KVM, pending exceptions are dropped. */
export function setRegs(cpu: Processor, regs: Regs): void {
  for (const [index, name] of NAMES.entries()) cpu.state.setGpr(index, regs[name]);
  // An access that the monitor has answered belongs to its instruction; elsewhere nobody waits for it.
  if (cpu.rip !== BigInt.asUintN(64, regs.rip)) cpu.memory.mmio.clear();
  cpu.rip = BigInt.asUintN(64, regs.rip);
  cpu.instructionRip = cpu.rip;
  const before = cpu.state.rflags;
  // What RFLAGS does not have is dropped.
  cpu.state.rflags = Number(BigInt.asUintN(32, regs.rflags));
  // The segments may have been set while the flags were those of virtual-8086 mode, which is ring 3, or the other way round.
  if (((cpu.state.rflags ^ before) & Flag.VM) !== 0) derivePrivilege(cpu.state);
  cpu.events.exception = undefined;
  cpu.modeMayHaveChanged();
}

/** DR6 and DR7 lie behind DR0 to DR3 in {@link State.dr}. */
export const DR6 = State.dr + 4 * 8;
export const DR7 = State.dr + 5 * 8;
/** Bits that are always set (Intel SDM vol. 3, 17.2). */
export const DR6_FIXED = 0xffff0ff0n;
export const DR7_FIXED = 0x400n;

export function getDebugRegs(cpu: Processor): DebugRegs {
  return {
    db: [0, 1, 2, 3].map((index) => cpu.state.get64(State.dr + index * 8)),
    dr6: cpu.state.get64(DR6),
    dr7: cpu.state.get64(DR7),
    flags: 0n,
  };
}

export function setDebugRegs(cpu: Processor, regs: DebugRegs): void {
  for (const [index, address] of regs.db.entries()) cpu.state.set64(State.dr + index * 8, address);
  cpu.state.set64(DR6, regs.dr6 | DR6_FIXED);
  cpu.state.set64(DR7, regs.dr7 | DR7_FIXED);
  debugRegistersChanged(cpu);
}

/** Data breakpoints keep their pages out of the lookaside buffers. */
export function debugRegistersChanged(cpu: Processor): void {
  if (cpu.memory.watch.update(cpu.state)) cpu.flushAll();
}
