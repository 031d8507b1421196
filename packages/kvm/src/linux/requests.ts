/**
 * The ioctl numbers of linux/kvm.h. Some numbers stand twice, told apart by direction and size; a test holds every one
 * against the kernel's header.
 */

import { io, ior, iow, iowr } from "@lodge/linux";
import { GuestDebug, MpStateRecord, NestedStateHeader, VcpuEvents } from "../layout/events.ts";
import {
  Ioeventfd,
  IrqchipRecord,
  Irqfd,
  IrqLevel,
  LapicState,
  Msi,
  PitConfig,
  PitState,
  ROUTING_HEADER,
} from "../layout/interrupts.ts";
import {
  CPUID_HEADER,
  DebugRegs,
  Fpu,
  MSR_LIST_HEADER,
  MSRS_HEADER,
  Regs,
  Sregs,
  Sregs2,
  Translation,
  Xcrs,
  XSAVE_SIZE,
} from "../layout/registers.ts";
import { ClearDirtyLog, ClockData, CoalescedZone, DirtyLog, EnableCap, MemoryRegion, MsrFilter } from "../layout/vm.ts";

const KVM = 0xae;

export const Request = {
  // The device.
  KVM_GET_API_VERSION: io(KVM, 0x00),
  KVM_CREATE_VM: io(KVM, 0x01),
  KVM_GET_MSR_INDEX_LIST: iowr(KVM, 0x02, MSR_LIST_HEADER),
  KVM_CHECK_EXTENSION: io(KVM, 0x03),
  KVM_GET_VCPU_MMAP_SIZE: io(KVM, 0x04),
  KVM_GET_SUPPORTED_CPUID: iowr(KVM, 0x05, CPUID_HEADER),
  KVM_GET_EMULATED_CPUID: iowr(KVM, 0x09, CPUID_HEADER),
  KVM_GET_MSR_FEATURE_INDEX_LIST: iowr(KVM, 0x0a, MSR_LIST_HEADER),

  // A machine.
  KVM_CREATE_VCPU: io(KVM, 0x41),
  KVM_GET_DIRTY_LOG: iow(KVM, 0x42, DirtyLog.size),
  KVM_SET_USER_MEMORY_REGION: iow(KVM, 0x46, MemoryRegion.size),
  KVM_SET_TSS_ADDR: io(KVM, 0x47),
  KVM_SET_IDENTITY_MAP_ADDR: iow(KVM, 0x48, 8),
  KVM_CREATE_IRQCHIP: io(KVM, 0x60),
  KVM_GET_IRQCHIP: iowr(KVM, 0x62, IrqchipRecord.size),
  KVM_SET_IRQCHIP: ior(KVM, 0x63, IrqchipRecord.size),
  KVM_IRQ_LINE_STATUS: iowr(KVM, 0x67, IrqLevel.size),
  KVM_REGISTER_COALESCED_MMIO: iow(KVM, 0x67, CoalescedZone.size),
  KVM_UNREGISTER_COALESCED_MMIO: iow(KVM, 0x68, CoalescedZone.size),
  KVM_SET_GSI_ROUTING: iow(KVM, 0x6a, ROUTING_HEADER),
  KVM_IRQFD: iow(KVM, 0x76, Irqfd.size),
  KVM_CREATE_PIT2: iow(KVM, 0x77, PitConfig.size),
  KVM_IOEVENTFD: iow(KVM, 0x79, Ioeventfd.size),
  KVM_SET_CLOCK: iow(KVM, 0x7b, ClockData.size),
  KVM_GET_CLOCK: ior(KVM, 0x7c, ClockData.size),
  KVM_GET_PIT2: ior(KVM, 0x9f, PitState.size),
  KVM_SET_PIT2: iow(KVM, 0xa0, PitState.size),
  KVM_SIGNAL_MSI: iow(KVM, 0xa5, Msi.size),
  KVM_MEMORY_ENCRYPT_OP: iowr(KVM, 0xba, 8),
  KVM_CLEAR_DIRTY_LOG: iowr(KVM, 0xc0, ClearDirtyLog.size),
  KVM_X86_SET_MSR_FILTER: iow(KVM, 0xc6, MsrFilter.size),
  KVM_RESET_DIRTY_RINGS: io(KVM, 0xc7),

  // A machine or a vCPU.
  KVM_ENABLE_CAP: iow(KVM, 0xa3, EnableCap.size),
  KVM_SET_TSC_KHZ: io(KVM, 0xa2),
  KVM_GET_TSC_KHZ: io(KVM, 0xa3),

  // A vCPU.
  KVM_RUN: io(KVM, 0x80),
  KVM_GET_REGS: ior(KVM, 0x81, Regs.size),
  KVM_SET_REGS: iow(KVM, 0x82, Regs.size),
  KVM_GET_SREGS: ior(KVM, 0x83, Sregs.size),
  KVM_SET_SREGS: iow(KVM, 0x84, Sregs.size),
  KVM_TRANSLATE: iowr(KVM, 0x85, Translation.size),
  KVM_INTERRUPT: iow(KVM, 0x86, 4),
  KVM_GET_MSRS: iowr(KVM, 0x88, MSRS_HEADER),
  KVM_SET_MSRS: iow(KVM, 0x89, MSRS_HEADER),
  KVM_SET_SIGNAL_MASK: iow(KVM, 0x8b, 4),
  KVM_GET_FPU: ior(KVM, 0x8c, Fpu.size),
  KVM_SET_FPU: iow(KVM, 0x8d, Fpu.size),
  KVM_GET_LAPIC: ior(KVM, 0x8e, LapicState.size),
  KVM_SET_LAPIC: iow(KVM, 0x8f, LapicState.size),
  KVM_SET_CPUID2: iow(KVM, 0x90, CPUID_HEADER),
  KVM_GET_CPUID2: iowr(KVM, 0x91, CPUID_HEADER),
  KVM_GET_MP_STATE: ior(KVM, 0x98, MpStateRecord.size),
  KVM_SET_MP_STATE: iow(KVM, 0x99, MpStateRecord.size),
  KVM_NMI: io(KVM, 0x9a),
  KVM_SET_GUEST_DEBUG: iow(KVM, 0x9b, GuestDebug.size),
  KVM_GET_VCPU_EVENTS: ior(KVM, 0x9f, VcpuEvents.size),
  KVM_SET_VCPU_EVENTS: iow(KVM, 0xa0, VcpuEvents.size),
  KVM_GET_DEBUGREGS: ior(KVM, 0xa1, DebugRegs.size),
  KVM_SET_DEBUGREGS: iow(KVM, 0xa2, DebugRegs.size),
  KVM_GET_XSAVE: ior(KVM, 0xa4, XSAVE_SIZE),
  KVM_SET_XSAVE: iow(KVM, 0xa5, XSAVE_SIZE),
  KVM_GET_XCRS: ior(KVM, 0xa6, Xcrs.size),
  KVM_SET_XCRS: iow(KVM, 0xa7, Xcrs.size),
  KVM_KVMCLOCK_CTRL: io(KVM, 0xad),
  KVM_GET_NESTED_STATE: iowr(KVM, 0xbe, NestedStateHeader.size),
  KVM_SET_NESTED_STATE: iow(KVM, 0xbf, NestedStateHeader.size),
  KVM_GET_SREGS2: ior(KVM, 0xcc, Sregs2.size),
  KVM_SET_SREGS2: iow(KVM, 0xcd, Sregs2.size),
  KVM_GET_XSAVE2: ior(KVM, 0xcf, XSAVE_SIZE),
} as const;
export type RequestName = keyof typeof Request;
