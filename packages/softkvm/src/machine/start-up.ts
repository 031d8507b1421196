/** INIT and start-up IPIs: how one processor starts another (Intel SDM vol. 3, 8.4). */

import { MpState } from "@lodge/kvm";
import { Seg, SegmentAttribute } from "../cpu/layout.ts";
import { resetProcessor } from "../system/reset.ts";
import { attributesOf, limitOf, setSegment } from "../system/segment-registers.ts";
import type { SoftVcpu } from "./vcpu.ts";

/** INIT has arrived: the boot processor begins anew, the others wait for a start-up IPI. */
export function takeInit(vcpu: SoftVcpu): void {
  resetProcessor(vcpu.core.processor, "init");
  vcpu.interrupts.reset(true);
  vcpu.core.mpState = vcpu.id === 0 ? MpState.RUNNABLE : MpState.INIT_RECEIVED;
}

/** A start-up IPI: its vector is the page where real-mode code begins. Only a processor that waits takes it. */
export function startProcessor(vcpu: SoftVcpu, vector: number): void {
  const { core } = vcpu;
  const { processor, state } = core;
  if (core.mpState !== MpState.INIT_RECEIVED && core.mpState !== MpState.UNINITIALIZED) return;
  const attributes = attributesOf(state, Seg.CS) & ~SegmentAttribute.UNUSABLE;
  setSegment(state, Seg.CS, vector << 8, BigInt(vector << 12), limitOf(state, Seg.CS), attributes);
  processor.rip = 0n;
  processor.instructionRip = 0n;
  processor.events.sipiVector = vector;
  core.mpState = MpState.RUNNABLE;
  processor.modeMayHaveChanged();
}
