/**
 * The KVM interface: types, binary layouts, constants and errors. This entry runs anywhere, a browser included; the
 * implementation over Linux's /dev/kvm is `@lodge/kvm/linux`.
 */

export { Capability, capabilityName } from "./capability.ts";
export { COALESCED_RING_ENTRIES, CoalescedRing, type CoalescedWriteEntry } from "./coalesced-ring.ts";
export { DirtyRing } from "./dirty-ring.ts";
export { exitError, InternalError, KvmError, type KvmErrorCode } from "./errors.ts";
export { ExitReason, exitReasonName } from "./exit-reason.ts";
export type {
  Hypervisor,
  HypervisorKind,
  Kicker,
  KickHandle,
  Notifier,
  NotifierHandle,
  VmHandle,
} from "./hypervisor.ts";
export * from "./layout/events.ts";
export * from "./layout/interrupts.ts";
export * from "./layout/registers.ts";
export * from "./layout/run.ts";
export * from "./layout/struct.ts";
export * from "./layout/vm.ts";
export { SharedLock } from "./lock.ts";
export { checkMemorySize, type GuestMemory } from "./memory.ts";
export * from "./modes.ts";
export { RunPage } from "./run-page.ts";
export { INTERPRETED_NS, measureRingZero } from "./speed.ts";
export { restoreVcpu, saveVcpu, type VcpuState } from "./state.ts";
export type { NearDevices, Vcpu } from "./vcpu.ts";
export type { CoalescedZoneRange, Doorbell, GsiRoute, MemorySlot, MsrFilterRange, Vm } from "./vm.ts";
