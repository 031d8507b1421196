/** Pending events as KVM has them. */

import { type VcpuEvents, VcpuEventsFlag } from "@lodge/kvm";
import { State, Vector } from "../cpu/layout.ts";
import type { Processor } from "./processor.ts";

/** KVM_X86_SHADOW_INT_MOV_SS and KVM_X86_SHADOW_INT_STI. */
export const Shadow = { MOV_SS: 1, STI: 2 } as const;

/** Parts that are always told; the payload only where one was kept. */
const ALWAYS = VcpuEventsFlag.NMI_PENDING | VcpuEventsFlag.SHADOW | VcpuEventsFlag.SMM;

export function getEvents(cpu: Processor): VcpuEvents {
  const { events, state } = cpu;
  const { exception } = events;
  const hasPayload = exception?.payload !== undefined;
  const pending = exception !== undefined && (hasPayload || exception.pending === true);
  return {
    exception: {
      // Without KVM_CAP_EXCEPTION_PAYLOAD, which nobody here enables, KVM tells pending ones as injected.
      injected: exception && !pending ? 1 : 0,
      nr: exception?.vector ?? 0,
      hasErrorCode: exception?.error === undefined ? 0 : 1,
      pending: pending ? 1 : 0,
      errorCode: exception?.error ?? 0,
    },
    interrupt: {
      injected: events.interrupt >= 0 && !events.interruptSoft ? 1 : 0,
      nr: Math.max(0, events.interrupt),
      soft: events.interruptSoft ? 1 : 0,
      shadow: state.get32(State.interruptShadow),
    },
    nmi: { injected: events.nmiInjected ? 1 : 0, pending: events.nmisPending, masked: events.nmiMasked ? 1 : 0 },
    sipiVector: 0,
    flags: ALWAYS | (pending ? VcpuEventsFlag.PAYLOAD : 0),
    smi: { smm: 0, pending: 0, smmInsideNmi: 0, latchedInit: 0 },
    tripleFault: { pending: events.tripleFault ? 1 : 0 },
    exceptionHasPayload: hasPayload ? 1 : 0,
    exceptionPayload: exception?.payload ?? 0n,
  };
}

export function setEvents(cpu: Processor, record: VcpuEvents): void {
  const { events, state } = cpu;
  const { exception, interrupt, nmi, flags } = record;
  const due = exception.injected || (flags & VcpuEventsFlag.PAYLOAD && exception.pending);
  events.exception = due
    ? {
        vector: exception.nr,
        error: exception.hasErrorCode ? exception.errorCode : undefined,
        payload: flags & VcpuEventsFlag.PAYLOAD && record.exceptionHasPayload ? record.exceptionPayload : undefined,
        soft: exception.nr === Vector.BP || exception.nr === Vector.OF,
        pending: exception.pending !== 0,
      }
    : undefined;
  events.interrupt = interrupt.injected || interrupt.soft ? interrupt.nr : -1;
  events.interruptSoft = interrupt.soft !== 0;
  if (flags & VcpuEventsFlag.SHADOW) state.set32(State.interruptShadow, interrupt.shadow);
  events.nmiInjected = nmi.injected !== 0;
  if (flags & VcpuEventsFlag.NMI_PENDING) events.nmisPending = nmi.pending;
  events.nmiMasked = nmi.masked !== 0;
  if (flags & VcpuEventsFlag.SIPI_VECTOR) events.sipiVector = record.sipiVector;
  if (flags & VcpuEventsFlag.TRIPLE_FAULT) events.tripleFault = record.tripleFault.pending !== 0;
}
