/** One virtual machine: its memory, interrupt wiring, clock and vCPUs. Sections are those of the kernel's api.rst. */

import type { Capability } from "./capability.ts";
import type { Notifier, VmHandle } from "./hypervisor.ts";
import type { IoapicState, Irqchip, Msi, PicState, PitState } from "./layout/interrupts.ts";
import type { ClockData } from "./layout/vm.ts";
import type { GuestMemory } from "./memory.ts";
import type { Vcpu } from "./vcpu.ts";

export interface Vm extends Disposable {
  readonly memory: GuestMemory;
  /** Posted to a worker, which attaches it and creates its vCPU there. */
  readonly handle: VmHandle;

  /** What this machine can do (4.4); may differ from the host's answer. */
  checkExtension(capability: Capability): number;
  /** Switches a capability on (4.37); its arguments are those of its section 7 entry. */
  enableCapability(capability: Capability, ...args: bigint[]): void;

  /** Makes guest physical memory out of the machine's memory, or changes a slot's place or flags (4.35). */
  setMemorySlot(slot: MemorySlot): void;
  deleteMemorySlot(slot: number): void;
  /**
   * Says that the monitor, or a device of its, wrote guest memory: a processor in software forgets what it translated
   * from there. For the kernel's there is nothing to do. After the writing, before the guest is told; any thread.
   */
  memoryWritten(guestAddress: number, sizeBytes: number): void;
  /** Three pages below 4 GiB that old Intel processors need; nothing else may lie there (4.34). */
  setTssAddress(guestAddress: number): void;
  /** One page for the same reason (4.42). Before any vCPU. */
  setIdentityMapAddress(guestAddress: number): void;

  /** Which pages of a slot were written since the last call: bit n of the bitmap is page n (4.8). Clears unless {@link enableManualDirtyLog}. */
  getDirtyLog(slot: number, bitmap: Uint8Array): void;
  /** Clears the marks of pages in a slot; `firstPage` and `pageCount` are multiples of 64 unless the slot ends (4.117). */
  clearDirtyLog(slot: number, firstPage: number, pageCount: number, bitmap: Uint8Array): void;
  /** Leaves clearing to {@link clearDirtyLog}; with `initiallySet`, new logs begin with every page dirty (7.14). */
  enableManualDirtyLog(initiallySet?: boolean): void;
  /** Gives each vCPU a ring of `bytes` (a power of two) instead of bitmaps (8.29). Before any vCPU. */
  enableDirtyRing(bytes: number): void;
  /** Tracks anew what the vCPUs' rings have handed over; returns how many pages (8.29). */
  resetDirtyRings(): number;

  /** Local APICs, IOAPIC and PICs in the hypervisor (4.24). Before any vCPU. */
  createIrqchip(): void;
  /** Only the local APICs in the hypervisor; the monitor plays IOAPIC and PICs (7.5). Before any vCPU. */
  enableSplitIrqchip(ioapicPins: number): void;
  /** An 8254 in the hypervisor (4.71). `speaker`: port 0x61 too. */
  createPit(options?: { speaker?: boolean }): void;
  getPic(chip: typeof Irqchip.PIC_MASTER | typeof Irqchip.PIC_SLAVE): PicState;
  setPic(chip: typeof Irqchip.PIC_MASTER | typeof Irqchip.PIC_SLAVE, state: PicState): void;
  getIoapic(): IoapicState;
  setIoapic(state: IoapicState): void;
  getPit(): PitState;
  setPit(state: PitState): void;

  /** Sets the level of an interrupt line (4.25); an edge is true, then false. Returns the delivery status: 0 merged, above 0 delivered, below 0 masked. */
  setIrqLine(gsi: number, high: boolean): number;
  /** Replaces the whole table of what each GSI leads to (4.52). */
  setGsiRouting(routes: readonly GsiRoute[]): void;
  /** Delivers a message-signalled interrupt now (4.70): above 0 delivered, 0 blocked by the guest. */
  signalMsi(msi: Msi): number;
  /** Raises a GSI whenever the notifier is signalled (4.75). With `resample`, the line stays up until the guest's EOI signals that one. */
  assignIrqfd(notifier: Notifier, gsi: number, resample?: Notifier): void;
  deassignIrqfd(notifier: Notifier, gsi: number): void;
  /** Signals a notifier instead of an exit when the guest writes there (4.59). */
  assignIoeventfd(notifier: Notifier, where: Doorbell): void;
  deassignIoeventfd(notifier: Notifier, where: Doorbell): void;
  /** Collects writes to a zone in the {@link Vcpu.coalescedRing} instead of an exit for each (4.116). */
  registerCoalescedZone(zone: CoalescedZoneRange): void;
  unregisterCoalescedZone(zone: CoalescedZoneRange): void;

  /** The guest's clock in nanoseconds (4.29). */
  getClock(): ClockData;
  /** Sets it (4.30); call before the vCPUs run again. `flags` as read, without `TSC_STABLE`; 0 sets the clock alone. */
  setClock(clock: ClockData): void;
  /** The TSC frequency that new vCPUs get, in kHz (4.55). */
  setTscKhz(khz: number): void;
  getTscKhz(): number;
  /** How long a halted vCPU polls before it sleeps, in nanoseconds (7.16). */
  setHaltPollNs(ns: number): void;

  /** Which MSR accesses of the guest exit to the monitor: a mask of `MsrExitReason` (7.21). */
  setMsrExits(reasons: number): void;
  /** Which MSR accesses are filtered: all that no range allows, with `denyByDefault` (4.135). */
  setMsrFilter(ranges: readonly MsrFilterRange[], options?: { denyByDefault?: boolean }): void;

  /** A vCPU of this thread; `id` is its APIC id (4.7). */
  createVcpu(id: number): Vcpu;

  /** Ends the machine. Refused while a vCPU is open, in whichever thread. */
  close(): void;
}

/** A piece of guest physical memory. Addresses and sizes are bytes, multiples of 4 KiB. */
export interface MemorySlot {
  slot: number;
  guestAddress: number;
  sizeBytes: number;
  /** Where the piece begins in the machine's memory. */
  memoryOffset: number;
  /** Guest writes exit as MMIO. */
  readOnly?: boolean;
  logDirtyPages?: boolean;
}

/** Where a guest's write rings. `length` 0 matches any width; without `datamatch` any value rings. */
export interface Doorbell {
  bus: "pio" | "mmio";
  address: number;
  length: 0 | 1 | 2 | 4 | 8;
  datamatch?: bigint;
}

export interface CoalescedZoneRange {
  bus: "pio" | "mmio";
  address: number;
  sizeBytes: number;
}

/** What a GSI leads to: a pin of a chip, or a message. */
export type GsiRoute =
  | { gsi: number; type: "irqchip"; irqchip: Irqchip; pin: number }
  | { gsi: number; type: "msi"; addressLo: number; addressHi: number; data: number; devid?: number };

/** MSRs `base` to `base + count - 1`; bit n of `allowed` lets MSR `base + n` pass, all others are filtered. */
export interface MsrFilterRange {
  access: "read" | "write" | "both";
  base: number;
  count: number;
  allowed: Uint8Array;
}
