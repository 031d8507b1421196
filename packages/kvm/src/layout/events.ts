/** What a vCPU is in the middle of: pending events, halted or running, nested state. */

import { array, type Infer, padding, struct, u8, u16, u32, u64 } from "./struct.ts";

const Exception = struct("kvm_vcpu_events.exception", {
  injected: u8,
  nr: u8,
  hasErrorCode: u8,
  pending: u8,
  errorCode: u32,
});
const Interrupt = struct("kvm_vcpu_events.interrupt", { injected: u8, nr: u8, soft: u8, shadow: u8 });
const Nmi = struct("kvm_vcpu_events.nmi", { injected: u8, pending: u8, masked: u8, pad: padding(u8) });
const Smi = struct("kvm_vcpu_events.smi", { smm: u8, pending: u8, smmInsideNmi: u8, latchedInit: u8 });
const TripleFault = struct("kvm_vcpu_events.triple_fault", { pending: u8 });

/** Exceptions, interrupts, NMIs and SMIs on their way into the guest. `flags` says which parts are valid. */
export const VcpuEvents = struct("kvm_vcpu_events", {
  exception: Exception,
  interrupt: Interrupt,
  nmi: Nmi,
  sipiVector: u32,
  flags: u32,
  smi: Smi,
  tripleFault: TripleFault,
  reserved: padding(u8, 26),
  exceptionHasPayload: u8,
  exceptionPayload: u64,
});
export type VcpuEvents = Infer<typeof VcpuEvents>;

/** `VcpuEvents.flags`: KVM_VCPUEVENT_VALID_*. */
export const VcpuEventsFlag = {
  NMI_PENDING: 0x1,
  SIPI_VECTOR: 0x2,
  SHADOW: 0x4,
  SMM: 0x8,
  PAYLOAD: 0x10,
  TRIPLE_FAULT: 0x20,
} as const;

/** `struct kvm_mp_state`. */
export const MpStateRecord = struct("kvm_mp_state", { mpState: u32 });

/** Whether a vCPU runs, sleeps or waits to be started: KVM_MP_STATE_*. */
export const MpState = {
  RUNNABLE: 0,
  UNINITIALIZED: 1,
  INIT_RECEIVED: 2,
  HALTED: 3,
  SIPI_RECEIVED: 4,
} as const;
export type MpState = (typeof MpState)[keyof typeof MpState];

/** The head of `struct kvm_nested_state`; `size` bytes in all, the rest is the vendor's. */
export const NestedStateHeader = struct("kvm_nested_state", {
  flags: u16,
  format: u16,
  size: u32,
  hdr: padding(u8, 120),
});

/** What the debugger watches: `control` is a mask of {@link GuestDebugControl}; `debugreg` are DR0 to DR7. */
export const GuestDebug = struct("kvm_guest_debug", { control: u32, pad: padding(u32), debugreg: array(u64, 8) });
export type GuestDebug = Infer<typeof GuestDebug>;

/** KVM_GUESTDBG_*. */
export const GuestDebugControl = {
  ENABLE: 0x1,
  SINGLESTEP: 0x2,
  USE_SW_BP: 0x10000,
  USE_HW_BP: 0x20000,
  INJECT_DB: 0x40000,
  INJECT_BP: 0x80000,
  BLOCKIRQ: 0x100000,
} as const;
