/** Why `KVM_RUN` returned: KVM_EXIT_* of linux/kvm.h, those that an x86 host can give. */

export const ExitReason = {
  UNKNOWN: 0,
  EXCEPTION: 1,
  IO: 2,
  HYPERCALL: 3,
  DEBUG: 4,
  HLT: 5,
  MMIO: 6,
  IRQ_WINDOW_OPEN: 7,
  SHUTDOWN: 8,
  FAIL_ENTRY: 9,
  /** A kick or a signal; also what {@link Vcpu.run} returns when the kernel says EINTR or EAGAIN. */
  INTR: 10,
  SET_TPR: 11,
  TPR_ACCESS: 12,
  NMI: 16,
  INTERNAL_ERROR: 17,
  SYSTEM_EVENT: 24,
  IOAPIC_EOI: 26,
  HYPERV: 27,
  X86_RDMSR: 29,
  X86_WRMSR: 30,
  DIRTY_RING_FULL: 31,
  AP_RESET_HOLD: 32,
  X86_BUS_LOCK: 33,
  XEN: 34,
  NOTIFY: 37,
  MEMORY_FAULT: 39,
} as const;
export type ExitReason = (typeof ExitReason)[keyof typeof ExitReason];

const names = new Map<number, string>(Object.entries(ExitReason).map(([name, number]) => [number, name]));

/** The reason's name as the kernel's documentation writes it, such as `KVM_EXIT_IO`. */
export function exitReasonName(reason: number): string {
  return `KVM_EXIT_${names.get(reason) ?? reason}`;
}
