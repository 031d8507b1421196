/** What the software hypervisor can do, as KVM would say it. */

import { Capability } from "@lodge/kvm";
import { EXITING_HYPERCALLS } from "./hypercalls.ts";
import { MAX_VCPUS } from "./vm-record.ts";

const answers = new Map<number, number>([
  ...[
    Capability.IRQCHIP,
    Capability.HLT,
    Capability.USER_MEMORY,
    Capability.SET_TSS_ADDR,
    Capability.EXT_CPUID,
    Capability.CLOCKSOURCE,
    Capability.MP_STATE,
    Capability.SYNC_MMU,
    Capability.DESTROY_MEMORY_REGION_WORKS,
    Capability.USER_NMI,
    Capability.SET_GUEST_DEBUG,
    Capability.IRQ_ROUTING,
    Capability.IRQ_INJECT_STATUS,
    Capability.JOIN_MEMORY_REGIONS_WORKS,
    Capability.IRQFD,
    Capability.PIT2,
    Capability.PIT_STATE2,
    Capability.IOEVENTFD,
    Capability.SET_IDENTITY_MAP_ADDR,
    Capability.VCPU_EVENTS,
    Capability.INTR_SHADOW,
    Capability.DEBUGREGS,
    Capability.X86_ROBUST_SINGLESTEP,
    Capability.ENABLE_CAP,
    Capability.XSAVE,
    Capability.XCRS,
    Capability.TSC_CONTROL,
    Capability.GET_TSC_KHZ,
    Capability.TSC_DEADLINE_TIMER,
    Capability.KVMCLOCK_CTRL,
    Capability.SIGNAL_MSI,
    Capability.READONLY_MEM,
    Capability.IRQFD_RESAMPLE,
    Capability.ENABLE_CAP_VM,
    Capability.IOEVENTFD_NO_LENGTH,
    Capability.CHECK_EXTENSION_VM,
    Capability.SPLIT_IRQCHIP,
    Capability.IOEVENTFD_ANY_LENGTH,
    Capability.IMMEDIATE_EXIT,
    Capability.COALESCED_PIO,
    Capability.EXCEPTION_PAYLOAD,
    Capability.GET_MSR_FEATURES,
    Capability.HALT_POLL,
    Capability.X86_MSR_FILTER,
    Capability.SREGS2,
    Capability.VM_TSC_CONTROL,
  ].map((capability): [number, number] => [capability, 1]),
  [Capability.NR_VCPUS, 8],
  [Capability.MAX_VCPUS, MAX_VCPUS],
  [Capability.MAX_VCPU_ID, 256],
  [Capability.NR_MEMSLOTS, 1024],
  /** Bytes of the largest ring. */
  [Capability.DIRTY_LOG_RING, 65536 * 16],
  [Capability.DIRTY_LOG_RING_ACQ_REL, 65536 * 16],
  /** The ring is two pages behind the run page, as KVM's is. */
  [Capability.COALESCED_MMIO, 2],
  /** Registers, system registers, events. */
  [Capability.SYNC_REGS, 7],
  /** 32-bit destinations, no broadcast quirk. */
  [Capability.X2APIC_API, 3],
  [Capability.X86_USER_SPACE_MSR, 7],
  [Capability.MANUAL_DIRTY_LOG_PROTECT2, 3],
  [Capability.EXIT_HYPERCALL, EXITING_HYPERCALLS],
  /** KVM_CLOCK_TSC_STABLE, REALTIME and HOST_TSC. */
  [Capability.ADJUST_CLOCK, 14],
]);

export function checkExtension(capability: Capability): number {
  return answers.get(capability) ?? 0;
}
