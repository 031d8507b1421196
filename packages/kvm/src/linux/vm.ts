/** A machine of the kernel's KVM. */

import { markAsUncloneable } from "node:worker_threads";
import { addressOf, close, Errno, threadEnded, tryIoctl } from "@lodge/linux";
import { Capability } from "../capability.ts";
import { KvmError } from "../errors.ts";
import type { Notifier, VmHandle } from "../hypervisor.ts";
import {
  IoapicState,
  Ioeventfd,
  IoeventfdFlag,
  IRQCHIP_STATE,
  Irqchip,
  IrqchipRecord,
  Irqfd,
  IrqfdFlag,
  IrqLevel,
  Msi,
  PIT_SPEAKER_DUMMY,
  PicState,
  PitConfig,
  PitState,
} from "../layout/interrupts.ts";
import type { FieldType } from "../layout/struct.ts";
import {
  ClearDirtyLog,
  ClockData,
  CoalescedZone,
  DirtyLog,
  ManualDirtyLog,
  MemoryFlag,
  MemoryRegion,
  MSR_FILTER_RANGES,
} from "../layout/vm.ts";
import type { Vcpu } from "../vcpu.ts";
import type { CoalescedZoneRange, Doorbell, GsiRoute, MemorySlot, MsrFilterRange, Vm } from "../vm.ts";
import { type LinuxMemory, newRecord } from "./memory.ts";
import { encodeMsrFilter } from "./msr-filter.ts";
import { notifierFd } from "./notifier.ts";
import { enableCapability, get, refused, request, requireCapability, set } from "./request.ts";
import { Request } from "./requests.ts";
import { encodeRouting } from "./routing.ts";
import { checkSlot, type RecordPlace, SharedVmRecord } from "./shared-record.ts";
import { closeAbandoned, LinuxVcpu } from "./vcpu.ts";

export interface LinuxVmHandle extends VmHandle {
  readonly kind: "kvm";
  readonly memory: LinuxMemory;
  readonly fd: number;
  readonly record: RecordPlace;
}

const PAGE = 4096;

/** Guest memory is in use by the kernel while its machine is open, whether or not JavaScript still looks at it. By descriptor. */
const openMachines = new Map<number, LinuxVm>();

export class LinuxVm implements Vm {
  readonly memory: LinuxMemory;
  readonly #fd: number;
  readonly #owner: boolean;
  readonly #record: SharedVmRecord;

  private constructor(fd: number, memory: LinuxMemory, record: SharedVmRecord, owner: boolean) {
    this.memory = memory;
    this.#fd = fd;
    this.#owner = owner;
    this.#record = record;
    markAsUncloneable(this);
    if (owner) openMachines.set(fd, this);
  }

  static create(deviceFd: number, memory: LinuxMemory): LinuxVm {
    return new LinuxVm(createVm(deviceFd), memory, newRecord(memory), true);
  }

  static attach({ fd, memory, record }: LinuxVmHandle): LinuxVm {
    return new LinuxVm(fd, memory, new SharedVmRecord(record), false);
  }

  get handle(): LinuxVmHandle {
    return { kind: "kvm", fd: this.#fd, memory: this.memory, record: this.#record.place };
  }

  checkExtension(capability: Capability): number {
    return request(this.#open(), "KVM_CHECK_EXTENSION", capability);
  }

  enableCapability(capability: Capability, ...args: bigint[]): void {
    enableCapability(this.#open(), capability, args);
  }

  setMemorySlot(slot: MemorySlot): void {
    const { guestAddress, sizeBytes, memoryOffset } = slot;
    checkSlot(slot.slot);
    const subject = () => `memory slot ${slot.slot} (${hex(sizeBytes)} bytes at ${hex(guestAddress)})`;
    if (!(isPageMultiple(guestAddress) && isPageMultiple(sizeBytes) && isPageMultiple(memoryOffset))) {
      throw new KvmError("KVM_INVALID", `${subject()}: addresses and sizes are multiples of 4 KiB`);
    }
    if (sizeBytes === 0) throw new KvmError("KVM_INVALID", `${subject()}: a slot has at least one page`);
    if (memoryOffset + sizeBytes > this.memory.sizeBytes) {
      throw new KvmError(
        "KVM_INVALID",
        `${subject()}: it ends at ${hex(memoryOffset + sizeBytes)} of a memory of ${hex(this.memory.sizeBytes)} bytes`,
      );
    }
    if (slot.readOnly) this.#require(Capability.READONLY_MEM, subject());
    this.#setRegion(subject, {
      slot: slot.slot,
      flags: (slot.logDirtyPages ? MemoryFlag.LOG_DIRTY_PAGES : 0) | (slot.readOnly ? MemoryFlag.READONLY : 0),
      guestPhysAddr: guestAddress,
      memorySize: sizeBytes,
      userspaceAddr: this.memory.record.address + memoryOffset,
    });
    this.#record.setSlotSize(slot.slot, sizeBytes);
  }

  /** The processor sees to that. */
  memoryWritten(): void {}
  deleteMemorySlot(slot: number): void {
    const subject = `memory slot ${slot}`;
    if (this.#record.slotSize(slot) === 0) throw new KvmError("KVM_INVALID", `${subject}: there is none to delete`);
    this.#setRegion(subject, { slot, flags: 0, guestPhysAddr: 0, memorySize: 0, userspaceAddr: 0 });
    this.#record.setSlotSize(slot, 0);
  }

  setTssAddress(guestAddress: number): void {
    request(this.#open(), "KVM_SET_TSS_ADDR", guestAddress);
  }

  setIdentityMapAddress(guestAddress: number): void {
    request(this.#open(), "KVM_SET_IDENTITY_MAP_ADDR", new BigUint64Array([BigInt(guestAddress)]), "identity map", {
      [Errno.EINVAL]: "set it before the first vCPU, and once",
    });
  }

  getDirtyLog(slot: number, bitmap: Uint8Array): void {
    this.#checkBitmap(slot, this.#record.slotSize(slot) / PAGE, bitmap);
    const log = { slot, dirtyBitmap: addressOf(bitmap) };
    set(this.#open(), "KVM_GET_DIRTY_LOG", DirtyLog, log, `dirty log of slot ${slot}`, {
      [Errno.ENOENT]: "the slot does not log dirty pages; set it with logDirtyPages",
      [Errno.ENXIO]: "this machine has dirty rings, which exclude bitmaps",
    });
  }

  clearDirtyLog(slot: number, firstPage: number, pageCount: number, bitmap: Uint8Array): void {
    this.#checkBitmap(slot, pageCount, bitmap);
    const log = { slot, numPages: pageCount, firstPage, dirtyBitmap: addressOf(bitmap) };
    set(this.#open(), "KVM_CLEAR_DIRTY_LOG", ClearDirtyLog, log, `pages ${firstPage}+${pageCount} of slot ${slot}`, {
      [Errno.EINVAL]: "first page and count are multiples of 64, unless the slot ends, and within the slot",
      [Errno.ENOENT]: "the slot does not log dirty pages",
    });
  }

  enableManualDirtyLog(initiallySet = false): void {
    this.#require(Capability.MANUAL_DIRTY_LOG_PROTECT2, "clearing dirty logs by hand");
    const flags = ManualDirtyLog.ENABLE | (initiallySet ? ManualDirtyLog.INITIALLY_SET : 0);
    this.enableCapability(Capability.MANUAL_DIRTY_LOG_PROTECT2, BigInt(flags));
  }

  enableDirtyRing(bytes: number): void {
    // The kernel offers one or both; on x86, whose stores are ordered, they are the same.
    const capability =
      this.checkExtension(Capability.DIRTY_LOG_RING_ACQ_REL) > 0
        ? Capability.DIRTY_LOG_RING_ACQ_REL
        : Capability.DIRTY_LOG_RING;
    this.#require(capability, "dirty rings");
    if (this.#record.openVcpus().length > 0)
      throw new KvmError("KVM_INVALID", "dirty rings are enabled before the first vCPU");
    this.enableCapability(capability, BigInt(bytes));
    this.#record.dirtyRingBytes = bytes;
  }

  resetDirtyRings(): number {
    return request(this.#open(), "KVM_RESET_DIRTY_RINGS", 0);
  }

  createIrqchip(): void {
    request(this.#open(), "KVM_CREATE_IRQCHIP", 0, "interrupt chips", {
      [Errno.EEXIST]: "the machine has them already",
      [Errno.EINVAL]: "create them before the first vCPU",
    });
  }

  enableSplitIrqchip(ioapicPins: number): void {
    this.#require(Capability.SPLIT_IRQCHIP, "a split interrupt chip");
    this.enableCapability(Capability.SPLIT_IRQCHIP, BigInt(ioapicPins));
  }

  createPit(options: { speaker?: boolean } = {}): void {
    set(this.#open(), "KVM_CREATE_PIT2", PitConfig, { flags: options.speaker ? PIT_SPEAKER_DUMMY : 0 }, "PIT", {
      [Errno.ENOENT]: "create the interrupt chips first",
      [Errno.EEXIST]: "the machine has one already",
    });
  }

  getPic(chip: typeof Irqchip.PIC_MASTER | typeof Irqchip.PIC_SLAVE): PicState {
    return this.#getChip(chip, PicState);
  }
  setPic(chip: typeof Irqchip.PIC_MASTER | typeof Irqchip.PIC_SLAVE, state: PicState): void {
    this.#setChip(chip, PicState, state);
  }
  getIoapic(): IoapicState {
    return this.#getChip(Irqchip.IOAPIC, IoapicState);
  }
  setIoapic(state: IoapicState): void {
    this.#setChip(Irqchip.IOAPIC, IoapicState, state);
  }
  getPit(): PitState {
    return get(this.#open(), "KVM_GET_PIT2", PitState);
  }
  setPit(state: PitState): void {
    set(this.#open(), "KVM_SET_PIT2", PitState, state);
  }

  setIrqLine(gsi: number, high: boolean): number {
    const level = IrqLevel.encode({ irq: gsi, level: high ? 1 : 0 });
    request(this.#open(), "KVM_IRQ_LINE_STATUS", level, `interrupt line ${gsi}`, NEEDS_IRQCHIP);
    return IrqLevel.decode(level).irq;
  }

  setGsiRouting(routes: readonly GsiRoute[]): void {
    request(this.#open(), "KVM_SET_GSI_ROUTING", encodeRouting(routes), `${routes.length} interrupt routes`, {
      [Errno.EINVAL]: "a route has a GSI, chip or pin that does not exist, or the machine has no interrupt chip",
    });
  }

  signalMsi(msi: Msi): number {
    const result = tryIoctl(this.#open(), Request.KVM_SIGNAL_MSI, Msi.encode(msi));
    // The kernel's -1 for nobody to deliver to comes out as EPERM.
    if (result === -Errno.EPERM) return 0;
    if (result < 0) throw refused(-result, "KVM_SIGNAL_MSI", "message-signalled interrupt", NEEDS_IRQCHIP);
    return result;
  }

  assignIrqfd(notifier: Notifier, gsi: number, resample?: Notifier): void {
    if (resample !== undefined) this.#require(Capability.IRQFD_RESAMPLE, "a level-triggered irqfd");
    this.#irqfd(notifier, gsi, resample === undefined ? 0 : IrqfdFlag.RESAMPLE, resample);
  }
  deassignIrqfd(notifier: Notifier, gsi: number): void {
    this.#irqfd(notifier, gsi, IrqfdFlag.DEASSIGN);
  }

  assignIoeventfd(notifier: Notifier, where: Doorbell): void {
    this.#ioeventfd(notifier, where, 0);
  }
  deassignIoeventfd(notifier: Notifier, where: Doorbell): void {
    this.#ioeventfd(notifier, where, IoeventfdFlag.DEASSIGN);
  }

  registerCoalescedZone(zone: CoalescedZoneRange): void {
    this.#require(zone.bus === "pio" ? Capability.COALESCED_PIO : Capability.COALESCED_MMIO, "coalesced writes");
    set(this.#open(), "KVM_REGISTER_COALESCED_MMIO", CoalescedZone, encodeZone(zone));
  }
  unregisterCoalescedZone(zone: CoalescedZoneRange): void {
    set(this.#open(), "KVM_UNREGISTER_COALESCED_MMIO", CoalescedZone, encodeZone(zone));
  }

  getClock(): ClockData {
    return get(this.#open(), "KVM_GET_CLOCK", ClockData);
  }
  setClock(clock: ClockData): void {
    set(this.#open(), "KVM_SET_CLOCK", ClockData, clock);
  }
  setTscKhz(khz: number): void {
    this.#require(Capability.VM_TSC_CONTROL, "a TSC frequency of the machine");
    request(this.#open(), "KVM_SET_TSC_KHZ", khz, `TSC at ${khz} kHz`);
  }
  getTscKhz(): number {
    this.#require(Capability.VM_TSC_CONTROL, "a TSC frequency of the machine");
    return request(this.#open(), "KVM_GET_TSC_KHZ", 0);
  }
  setHaltPollNs(ns: number): void {
    this.#require(Capability.HALT_POLL, "halt polling by machine");
    this.enableCapability(Capability.HALT_POLL, BigInt(ns));
  }

  setMsrExits(reasons: number): void {
    this.#require(Capability.X86_USER_SPACE_MSR, "MSR exits");
    this.enableCapability(Capability.X86_USER_SPACE_MSR, BigInt(reasons));
  }
  setMsrFilter(ranges: readonly MsrFilterRange[], options: { denyByDefault?: boolean } = {}): void {
    this.#require(Capability.X86_MSR_FILTER, "an MSR filter");
    if (ranges.length > MSR_FILTER_RANGES) {
      throw new KvmError(
        "KVM_INVALID",
        `an MSR filter of ${ranges.length} ranges: it has at most ${MSR_FILTER_RANGES}`,
      );
    }
    const { filter } = encodeMsrFilter(ranges, options.denyByDefault ?? false);
    request(this.#open(), "KVM_X86_SET_MSR_FILTER", filter, "MSR filter");
  }

  createVcpu(id: number): Vcpu {
    return new LinuxVcpu(id, this, this.#open(), this.#record);
  }

  close(): void {
    if (!this.#owner || this.#record.closed) return;
    for (const vcpu of this.#record.openVcpus()) {
      if (threadEnded(this.#record.entry(vcpu).tid)) closeAbandoned(this.#record, vcpu);
    }
    const open = this.#record.openVcpus().length;
    if (open > 0) {
      throw new KvmError(
        "KVM_IN_USE",
        `${open} of the machine's vCPUs are open: kick them, and let their threads close them first`,
      );
    }
    this.#record.markClosed();
    close(this.#fd);
    openMachines.delete(this.#fd);
  }

  [Symbol.dispose](): void {
    this.close();
  }

  /** The descriptor, while there is one: its number may be another file's after that. */
  #open(): number {
    if (this.#record.closed) throw new KvmError("KVM_CLOSED", "this machine is closed");
    return this.#fd;
  }

  #require(capability: Capability, what: string): void {
    requireCapability((wanted) => this.checkExtension(wanted), capability, what);
  }

  #setRegion(subject: string | (() => string), region: Parameters<typeof MemoryRegion.encode>[0]): void {
    set(this.#open(), "KVM_SET_USER_MEMORY_REGION", MemoryRegion, region, subject, REFUSED_SLOT);
  }

  #checkBitmap(slot: number, pages: number, bitmap: Uint8Array): void {
    if (this.#record.slotSize(slot) === 0) throw new KvmError("KVM_INVALID", `memory slot ${slot}: there is none`);
    // The kernel reads and writes whole 64-bit words.
    const needed = Math.ceil(pages / 64) * 8;
    if (bitmap.byteLength >= needed) return;
    throw new KvmError("KVM_INVALID", `${pages} pages need a bitmap of ${needed} bytes, not ${bitmap.byteLength}`);
  }

  #getChip<T>(chip: Irqchip, layout: FieldType<T>): T {
    const record = IrqchipRecord.allocate();
    record.setUint32(0, chip, true);
    request(this.#open(), "KVM_GET_IRQCHIP", record, "interrupt chip", NEEDS_IRQCHIP);
    return layout.read(record, IRQCHIP_STATE);
  }

  #setChip<T>(chip: Irqchip, layout: FieldType<T>, state: T): void {
    const record = IrqchipRecord.allocate();
    record.setUint32(0, chip, true);
    layout.write(record, IRQCHIP_STATE, state);
    request(this.#open(), "KVM_SET_IRQCHIP", record, "interrupt chip", NEEDS_IRQCHIP);
  }

  #irqfd(notifier: Notifier, gsi: number, flags: number, resample?: Notifier): void {
    const resamplefd = resample === undefined ? 0 : notifierFd(resample);
    set(this.#open(), "KVM_IRQFD", Irqfd, { fd: notifierFd(notifier), gsi, flags, resamplefd }, `irqfd on GSI ${gsi}`, {
      ...NEEDS_IRQCHIP,
      [Errno.EBUSY]: "this notifier raises an interrupt already",
    });
  }

  #ioeventfd(notifier: Notifier, where: Doorbell, flags: number): void {
    const subject = `ioeventfd at ${where.bus} ${hex(where.address)}`;
    if (where.length === 0) this.#require(Capability.IOEVENTFD_ANY_LENGTH, `${subject} for any width`);
    const pio = where.bus === "pio" ? IoeventfdFlag.PIO : 0;
    const match = where.datamatch === undefined ? 0 : IoeventfdFlag.DATAMATCH;
    const value = {
      datamatch: where.datamatch ?? 0n,
      addr: where.address,
      len: where.length,
      fd: notifierFd(notifier),
      flags: flags | pio | match,
    };
    set(this.#open(), "KVM_IOEVENTFD", Ioeventfd, value, subject, {
      [Errno.EEXIST]: "another notifier is assigned there already",
      [Errno.ENOENT]: "no notifier is assigned there",
    });
  }
}

function createVm(deviceFd: number): number {
  for (;;) {
    const fd = tryIoctl(deviceFd, Request.KVM_CREATE_VM, 0);
    if (fd >= 0) return fd;
    // A signal may interrupt the making of a machine; nothing is left of it then.
    if (fd === -Errno.EINTR) continue;
    if (fd === -Errno.EBUSY) {
      throw new KvmError(
        "KVM_BUSY",
        "another program holds the processor's virtualization (VirtualBox, VMware?): end it",
      );
    }
    throw refused(-fd, "KVM_CREATE_VM", "creating a machine");
  }
}

const REFUSED_SLOT = {
  [Errno.EEXIST]: "it overlaps another slot",
  [Errno.EINVAL]: "the kernel refuses it: a slot keeps its size and read-only flag until it is deleted",
};
const NEEDS_IRQCHIP = { [Errno.ENXIO]: "the machine has no interrupt chip; create it first" };

function encodeZone(zone: CoalescedZoneRange) {
  return { addr: zone.address, size: zone.sizeBytes, pio: zone.bus === "pio" ? 1 : 0 };
}

function isPageMultiple(value: number): boolean {
  return Number.isSafeInteger(value) && value >= 0 && value % PAGE === 0;
}

function hex(value: number): string {
  return `0x${value.toString(16)}`;
}
