/**
 * `struct kvm_run`: the page that a vCPU shares with its monitor. After a run it says why the vCPU stopped; what it asks
 * for is answered in place. Both implementations fill this layout.
 */

import { VcpuEvents } from "./events.ts";
import { Regs, Sregs } from "./registers.ts";
import { address, bytes, padding, struct, u8, u16, u32, u64 } from "./struct.ts";

/** The exits' union has 256 bytes. */
const UNION_SIZE = 256;

export const Run = struct("kvm_run", {
  requestInterruptWindow: u8,
  immediateExit: u8,
  padding1: padding(u8, 6),
  exitReason: u32,
  readyForInterruptInjection: u8,
  ifFlag: u8,
  flags: u16,
  cr8: u64,
  apicBase: u64,
  exit: bytes(UNION_SIZE),
  kvmValidRegs: u64,
  kvmDirtyRegs: u64,
  /** {@link SyncRegs}, in a union of 2048 bytes. */
  sync: bytes(2048),
});

/** The parts of `Run.exit`, one for each exit reason that says more; offsets are from the start of the union. */
export const RunExit = {
  hw: struct("kvm_run.hw", { hardwareExitReason: u64 }),
  failEntry: struct("kvm_run.fail_entry", { hardwareEntryFailureReason: u64, cpu: u32 }),
  io: struct("kvm_run.io", { direction: u8, size: u8, port: u16, count: u32, dataOffset: address }),
  debug: struct("kvm_run.debug.arch", { exception: u32, pad: padding(u32), pc: u64, dr6: u64, dr7: u64 }),
  mmio: struct("kvm_run.mmio", { physAddr: address, data: bytes(8), len: u32, isWrite: u8 }),
  hypercall: struct("kvm_run.hypercall", { nr: u64, args: bytes(48), ret: u64, flags: u64 }),
  tprAccess: struct("kvm_run.tpr_access", { rip: u64, isWrite: u32 }),
  internal: struct("kvm_run.internal", { suberror: u32, ndata: u32, data: bytes(128) }),
  emulationFailure: struct("kvm_run.emulation_failure", {
    suberror: u32,
    ndata: u32,
    flags: u64,
    insnSize: u8,
    insnBytes: bytes(15),
  }),
  systemEvent: struct("kvm_run.system_event", { type: u32, ndata: u32, data: bytes(128) }),
  eoi: struct("kvm_run.eoi", { vector: u8 }),
  msr: struct("kvm_run.msr", { error: u8, pad: padding(u8, 7), reason: u32, index: u32, data: u64 }),
  notify: struct("kvm_run.notify", { flags: u32 }),
  memoryFault: struct("kvm_run.memory_fault", { flags: u64, gpa: address, size: address }),
} as const;

/** `struct kvm_sync_regs`: registers that come with an exit, for those that `kvmValidRegs` asks for. */
export const SyncRegs = struct("kvm_sync_regs", { regs: Regs, sregs: Sregs, events: VcpuEvents });

/** Bits of `kvmValidRegs` and `kvmDirtyRegs`: KVM_SYNC_X86_*. */
export const SyncRegsFlag = { REGS: 1n, SREGS: 2n, EVENTS: 4n } as const;
