/** The state after power-up and after INIT (Intel SDM vol. 3, 10.1.1, table 10-1), as KVM has it. */

import { Cr0 } from "@lodge/kvm";
import { NO_FAULT, Seg, SegmentAttribute, State } from "../cpu/layout.ts";
import { Flag } from "../cpu/state.ts";
import { Cr0More, Xcr0 } from "./features.ts";
import { initializeComponent, MXCSR_INITIAL } from "./fpu-image.ts";
import { derivePrivilege } from "./mode.ts";
import { Gpr } from "./operands.ts";
import type { Processor } from "./processor.ts";
import { DR6, DR6_FIXED, DR7, DR7_FIXED, debugRegistersChanged } from "./regs.ts";
import { SegmentType, SystemType, setSegment } from "./segment-registers.ts";

const { S, PRESENT } = SegmentAttribute;
const DATA = S | PRESENT | SegmentType.WRITABLE | SegmentType.ACCESSED;
const CODE = DATA | SegmentType.CODE;

/** An INIT keeps FPU state, MSRs, and the cache bits of CR0. */
export function resetProcessor(cpu: Processor, kind: "power-up" | "init"): void {
  const { state } = cpu;
  for (let index = 0; index < 16; index++) state.setGpr(index, 0n);
  state.setGpr(Gpr.RDX, BigInt(cpu.hooks.cpuid(1, 0).eax >>> 0));
  cpu.rip = 0xfff0n;
  cpu.instructionRip = cpu.rip;
  state.rflags = Flag.ONE;

  for (const segment of [Seg.ES, Seg.SS, Seg.DS, Seg.FS, Seg.GS]) setSegment(state, segment, 0, 0n, 0xffff, DATA);
  setSegment(state, Seg.CS, 0xf000, 0xffff0000n, 0xffff, CODE);
  setSegment(state, Seg.LDT, 0, 0n, 0xffff, PRESENT | SystemType.LDT);
  setSegment(state, Seg.TR, 0, 0n, 0xffff, PRESENT | SystemType.TSS_32_BUSY);
  for (const table of [State.gdtBase, State.idtBase]) state.set64(table, 0n);
  for (const limit of [State.gdtLimit, State.idtLimit]) state.set32(limit, 0xffff);

  const caches = kind === "init" ? state.get64(State.cr0) & (Cr0More.CD | Cr0More.NW) : Cr0More.CD | Cr0More.NW;
  state.set64(State.cr0, Cr0.ET | caches);
  for (const field of [State.cr2, State.cr3, State.cr4, State.efer]) state.set64(field, 0n);
  for (let index = 0; index < 4; index++) state.set64(State.dr + index * 8, 0n);
  state.set64(DR6, DR6_FIXED);
  state.set64(DR7, DR7_FIXED);
  state.set32(State.faultVector, NO_FAULT);
  state.set32(State.interruptShadow, 0);
  state.set64(State.zero, 0n);
  cpu.events.clear();
  cpu.memory.mmio.clear();
  if (kind === "power-up") {
    for (const component of [Xcr0.X87, Xcr0.SSE, Xcr0.AVX]) initializeComponent(state, component);
    // Power-up leaves FCW 0x40 by the manual; KVM, and every system's first FNINIT, 0x37f.
    state.set32(State.mxcsr, MXCSR_INITIAL);
    state.set64(State.xcr0, Xcr0.X87);
    cpu.msrs.reset();
  }
  derivePrivilege(state);
  debugRegistersChanged(cpu);
  cpu.flushAll();
  cpu.modeMayHaveChanged();
}
