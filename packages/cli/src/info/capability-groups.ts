/** The capabilities that a machine monitor cares about, by what they are for. Sizes come with their values. */

export const CAPABILITY_GROUPS: Record<string, readonly string[]> = {
  sizes: ["NR_VCPUS", "MAX_VCPUS", "MAX_VCPU_ID", "NR_MEMSLOTS"],
  memory: [
    "USER_MEMORY",
    "SYNC_MMU",
    "READONLY_MEM",
    "MANUAL_DIRTY_LOG_PROTECT2",
    "DIRTY_LOG_RING",
    "COALESCED_MMIO",
    "COALESCED_PIO",
    "PRE_FAULT_MEMORY",
    "GUEST_MEMFD",
  ],
  interrupts: [
    "IRQCHIP",
    "SPLIT_IRQCHIP",
    "PIT2",
    "IRQ_ROUTING",
    "SIGNAL_MSI",
    "IRQFD",
    "IRQFD_RESAMPLE",
    "IOEVENTFD",
    "IOEVENTFD_ANY_LENGTH",
    "X2APIC_API",
  ],
  state: [
    "MP_STATE",
    "VCPU_EVENTS",
    "EXCEPTION_PAYLOAD",
    "DEBUGREGS",
    "XSAVE",
    "XSAVE2",
    "XCRS",
    "SREGS2",
    "NESTED_STATE",
    "SYNC_REGS",
  ],
  clock: ["ADJUST_CLOCK", "KVMCLOCK_CTRL", "GET_TSC_KHZ", "TSC_CONTROL", "VM_TSC_CONTROL", "TSC_DEADLINE_TIMER"],
  exits: [
    "IMMEDIATE_EXIT",
    "X86_DISABLE_EXITS",
    "X86_USER_SPACE_MSR",
    "X86_MSR_FILTER",
    "EXIT_HYPERCALL",
    "HALT_POLL",
    "SET_GUEST_DEBUG",
    "MEMORY_FAULT_INFO",
  ],
};

/** Those whose value is a count or a size worth reading. */
export const WITH_VALUE: ReadonlySet<string> = new Set([
  ...CAPABILITY_GROUPS.sizes!,
  "NESTED_STATE",
  "DIRTY_LOG_RING",
  "XSAVE2",
]);
