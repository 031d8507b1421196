/** One virtual processor. Every method is for the thread that created it. Sections are those of the kernel's api.rst. */

import type { Capability } from "./capability.ts";
import type { CoalescedRing } from "./coalesced-ring.ts";
import type { DirtyRing } from "./dirty-ring.ts";
import type { ExitReason } from "./exit-reason.ts";
import type { KickHandle } from "./hypervisor.ts";
import type { GuestDebug, MpState, VcpuEvents } from "./layout/events.ts";
import type {
  CpuidEntry,
  DebugRegs,
  Fpu,
  MsrEntry,
  Regs,
  Sregs,
  Sregs2,
  Translation,
  Xcrs,
} from "./layout/registers.ts";
import type { RunPage } from "./run-page.ts";

/**
 * Devices whose registers answer in the vCPU's thread, without an exit: {@link Vcpu.attachDevices}. They answer every access
 * that comes to them.
 */
export interface NearDevices {
  /** 1, 2 or 4 bytes. */
  readPort(port: number, size: number): number;
  writePort(port: number, size: number, value: number): void;
  /** 1 to 4 bytes of what is not memory. */
  readMemory(address: number, size: number): number;
  writeMemory(address: number, size: number, value: number): void;
  /** Looked at after each access: whether `run` shall return `INTR` when the instruction is over. */
  readonly wantStop: boolean;
}

export interface Vcpu extends Disposable {
  readonly id: number;
  /** What the last {@link run} stopped for, and where it is answered. */
  readonly page: RunPage;
  /** Posted to the threads that shall be able to stop this vCPU. */
  readonly kickHandle: KickHandle;
  /** Writes of coalesced zones, if the host has them. Shared by all vCPUs of the machine. */
  readonly coalescedRing: CoalescedRing | undefined;
  /** Pages that this vCPU wrote, after `Vm.enableDirtyRing`. */
  readonly dirtyRing: DirtyRing | undefined;

  /**
   * Runs the guest on this thread until something needs the monitor (4.10), and returns what. `INTR` for a kick or a
   * signal. Allocates nothing. Answers to `IO`, `MMIO`, MSR and hypercall exits are taken over by the next run.
   */
  run(): ExitReason;
  /** Takes over the answer to the last exit without running the guest: before state is read. */
  completeExit(): void;
  /**
   * Where the processor is this thread itself: accesses to ports and to what is not memory are answered by these from now on, but for
   * string instructions of several elements on a port, and do not exit. Exits cost such a processor more than the device does.
   */
  attachDevices?(devices: NearDevices): void;

  getRegs(): Regs;
  setRegs(regs: Regs): void;
  getSregs(): Sregs;
  setSregs(sregs: Sregs): void;
  getSregs2(): Sregs2;
  setSregs2(sregs: Sregs2): void;
  getFpu(): Fpu;
  setFpu(fpu: Fpu): void;
  /** The XSAVE area, as large as this vCPU's features need: 4 KiB, or more with AMX (4.42, 5.134). */
  getXsave(): Uint8Array;
  setXsave(area: Uint8Array): void;
  getXcrs(): Xcrs;
  setXcrs(xcrs: Xcrs): void;
  getDebugRegs(): DebugRegs;
  setDebugRegs(regs: DebugRegs): void;
  /** The local APIC's register page: 1024 bytes (4.57). */
  getLapic(): Uint8Array;
  setLapic(registers: Uint8Array): void;
  getMpState(): MpState;
  setMpState(state: MpState): void;
  getEvents(): VcpuEvents;
  setEvents(events: VcpuEvents): void;
  /** State of a hypervisor inside the guest, opaque (4.114); undefined where the host has no nesting. */
  getNestedState(): Uint8Array | undefined;
  setNestedState(state: Uint8Array): void;
  /** Reads MSRs; one that the host refuses is an error that names it. */
  getMsrs(indices: readonly number[]): MsrEntry[];
  setMsrs(entries: readonly MsrEntry[]): void;
  getCpuid(): CpuidEntry[];
  /** Before the first run. */
  setCpuid(entries: readonly CpuidEntry[]): void;
  getTscKhz(): number;
  setTscKhz(khz: number): void;

  /** Breakpoints and single steps that exit as `DEBUG` (4.87). */
  setGuestDebug(debug: GuestDebug): void;
  /** A non-maskable interrupt (4.64). */
  injectNmi(): void;
  /** An external interrupt, for machines without an in-hypervisor chip (4.16). Only when the guest can take it. */
  injectInterrupt(vector: number): void;
  /** What the guest's page tables make of a virtual address (4.14). */
  translate(linearAddress: bigint): Translation;
  /** Tells a guest with kvmclock that it was paused (4.76). Returns false when it has none. */
  notifyPaused(): boolean;
  enableCapability(capability: Capability, ...args: bigint[]): void;

  close(): void;
}
