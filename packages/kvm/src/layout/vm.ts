/** Memory slots, dirty tracking, clocks and switches of a whole machine. */

import { address, array, bytes, type Infer, padding, struct, u8, u32, u64 } from "./struct.ts";

export const MemoryRegion = struct("kvm_userspace_memory_region", {
  slot: u32,
  flags: u32,
  guestPhysAddr: address,
  memorySize: address,
  userspaceAddr: address,
});

/** KVM_MEM_*. */
export const MemoryFlag = { LOG_DIRTY_PAGES: 1, READONLY: 2 } as const;

export const DirtyLog = struct("kvm_dirty_log", { slot: u32, padding1: padding(u32), dirtyBitmap: address });

export const ClearDirtyLog = struct("kvm_clear_dirty_log", {
  slot: u32,
  numPages: u32,
  firstPage: address,
  dirtyBitmap: address,
});

/** KVM_DIRTY_LOG_*, for `KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2`. */
export const ManualDirtyLog = { ENABLE: 1, INITIALLY_SET: 2 } as const;

/** An entry of a vCPU's dirty ring: `offset` counts pages from the start of `slot`. */
export const DirtyGfn = struct("kvm_dirty_gfn", { flags: u32, slot: u32, offset: address });

/** KVM_DIRTY_GFN_F_*. */
export const DirtyGfnFlag = { DIRTY: 1, RESET: 2 } as const;

export const CoalescedZone = struct("kvm_coalesced_mmio_zone", { addr: address, size: u32, pio: u32 });

/** An entry of the coalesced ring. */
export const CoalescedWrite = struct("kvm_coalesced_mmio", { physAddr: address, len: u32, pio: u32, data: bytes(8) });

/** The guest's clock. Times are nanoseconds; `flags` is a mask of {@link ClockFlag}. */
export const ClockData = struct("kvm_clock_data", {
  clock: u64,
  flags: u32,
  pad0: padding(u32),
  realtime: u64,
  hostTsc: u64,
  pad: padding(u32, 4),
});
export type ClockData = Infer<typeof ClockData>;

/** KVM_CLOCK_*. */
export const ClockFlag = { TSC_STABLE: 2, REALTIME: 4, HOST_TSC: 8 } as const;

export const EnableCap = struct("kvm_enable_cap", { cap: u32, flags: u32, args: array(u64, 4), pad: padding(u8, 64) });

const MsrFilterRange = struct("kvm_msr_filter_range", { flags: u32, nmsrs: u32, base: u32, bitmap: address });

export const MSR_FILTER_RANGES = 16;

export const MsrFilter = struct("kvm_msr_filter", { flags: u32, ranges: array(MsrFilterRange, MSR_FILTER_RANGES) });

/** KVM_MSR_FILTER_*. */
export const MsrFilterFlag = { DEFAULT_DENY: 1, READ: 1, WRITE: 2 } as const;

/** Why an MSR access exits, as the mask that enables it: KVM_MSR_EXIT_REASON_*. */
export const MsrExitReason = { INVAL: 1, UNKNOWN: 2, FILTER: 4 } as const;
