/** A processor's state after power-up and INIT (Intel SDM vol. 3, table 9-1), and how a start-up IPI makes it run. */

import { MpState, type Segment } from "@lodge/kvm";
import { Seg, State } from "../cpu/layout.ts";
import type { Processor } from "../system/processor.ts";
import { DR6, DR6_FIXED, DR7, DR7_FIXED } from "../system/regs.ts";
import { putSegment } from "../system/sregs.ts";
import type { SoftVcpu } from "./vcpu.ts";

/** CD, NW and ET; the caches mean nothing here. */
const CR0_RESET = 0x60000010n;
const MXCSR_RESET = 0x1f80;
const FCW_RESET = 0x37f;
/** RDX without CPUID leaves: family 6. */
const DEFAULT_SIGNATURE = 0x600n;

const data: Segment = {
  base: 0n,
  limit: 0xffff,
  selector: 0,
  type: 3,
  present: 1,
  dpl: 0,
  db: 0,
  s: 1,
  l: 0,
  g: 0,
  avl: 0,
  unusable: 0,
};

/** INIT leaves x87 and SSE state and most MSRs alone. */
export function resetProcessor(cpu: Processor, init: boolean): void {
  const { state } = cpu;
  for (let register = 0; register < 16; register++) state.setGpr(register, 0n);
  const signature = cpu.hooks.cpuid(1, 0).eax >>> 0;
  state.setGpr(2, signature === 0 ? DEFAULT_SIGNATURE : BigInt(signature));
  state.rflags = 2;
  for (const segment of [Seg.ES, Seg.SS, Seg.DS, Seg.FS, Seg.GS]) putSegment(cpu, segment, data);
  putSegment(cpu, Seg.CS, { ...data, type: 11, selector: 0xf000, base: 0xffff0000n });
  putSegment(cpu, Seg.LDT, { ...data, type: 2, s: 0 });
  putSegment(cpu, Seg.TR, { ...data, type: 11, s: 0 });
  for (const table of [State.gdtBase, State.idtBase]) state.set64(table, 0n);
  for (const limit of [State.gdtLimit, State.idtLimit]) state.set32(limit, 0xffff);
  // INIT keeps the cache bits.
  const kept = init ? state.get64(State.cr0) & 0x60000000n : 0x60000000n;
  state.set64(State.cr0, (CR0_RESET & 0x10n) | kept);
  for (const register of [State.cr2, State.cr3, State.cr4, State.efer]) state.set64(register, 0n);
  for (let index = 0; index < 4; index++) state.set64(State.dr + index * 8, 0n);
  state.set64(DR6, DR6_FIXED);
  state.set64(DR7, DR7_FIXED);
  state.set32(State.cpl, 0);
  state.set32(State.interruptShadow, 0);
  state.set64(State.zero, 0n);
  cpu.hooks.writeTpr(0);
  cpu.events.clear();
  if (!init) {
    state.set64(State.xcr0, 1n);
    state.set32(State.mxcsr, MXCSR_RESET);
    state.set32(State.fcw, FCW_RESET);
  }
  cpu.rip = 0xfff0n;
  cpu.instructionRip = cpu.rip;
  cpu.memory.mmio.clear();
  cpu.flushAll();
  cpu.modeMayHaveChanged();
}

/** INIT has arrived: the boot processor begins anew, the others wait for a start-up IPI. */
export function takeInit(vcpu: SoftVcpu): void {
  resetProcessor(vcpu.core.processor, true);
  vcpu.interrupts.reset(true);
  vcpu.core.mpState = vcpu.id === 0 ? MpState.RUNNABLE : MpState.INIT_RECEIVED;
}

/** A start-up IPI: its vector is the page where real-mode code begins. Only a processor that waits takes it. */
export function startProcessor(vcpu: SoftVcpu, vector: number): void {
  const { core } = vcpu;
  if (core.mpState !== MpState.INIT_RECEIVED && core.mpState !== MpState.UNINITIALIZED) return;
  putSegment(core.processor, Seg.CS, { ...data, type: 11, selector: vector << 8, base: BigInt(vector << 12) });
  core.processor.rip = 0n;
  core.processor.instructionRip = 0n;
  core.processor.events.sipiVector = vector;
  core.mpState = MpState.RUNNABLE;
  core.processor.modeMayHaveChanged();
}
