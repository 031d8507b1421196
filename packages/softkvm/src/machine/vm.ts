/** A machine of the software hypervisor. All that its threads share is in shared memory; see {@link SoftVmHandle}. */

import {
  Capability,
  type ClockData,
  type CoalescedZoneRange,
  capabilityName,
  type Doorbell,
  type GsiRoute,
  type IoapicState,
  type Irqchip,
  KvmError,
  ManualDirtyLog,
  type MemorySlot,
  type Msi,
  type MsrFilterRange,
  type Notifier,
  type PicState,
  type PitState,
  type Vcpu,
  type Vm,
  type VmHandle,
} from "@lodge/kvm";
import { InterruptController, interruptAreaBytes } from "../interrupts/index.ts";
import { MemoryMap, type MemoryMapHandle, PAGE } from "../mmu/memory-map.ts";
import { Attention, Board } from "./board.ts";
import { checkExtension } from "./capabilities.ts";
import { MachineClock } from "./clock.ts";
import { createRing, type DirtyRingHandle, DirtyRingProducer } from "./dirty-rings.ts";
import { EXITING_HYPERCALLS } from "./hypercalls.ts";
import type { VcpuMaker } from "./hypervisor.ts";
import { growMemory, MOST_VCPUS, type SoftMemory, WASM_PAGE } from "./memory.ts";
import { notifierSlot } from "./notifier.ts";
import type { SoftVcpu } from "./vcpu.ts";
import { MAX_VCPUS, VmRecord } from "./vm-record.ts";

export interface SoftVmHandle extends VmHandle {
  readonly memory: SoftMemory;
  readonly kind: "soft";
  readonly board: SharedArrayBuffer;
  readonly map: MemoryMapHandle;
  readonly interrupts: SharedArrayBuffer;
  readonly record: SharedArrayBuffer;
  /** A page of coalesced writes. */
  readonly coalesced: SharedArrayBuffer;
  /** A dirty ring for each vCPU, by APIC index, once they are enabled. */
  readonly rings: DirtyRingHandle[];
}

/** For `CodeWrites.push` by one who has no code himself. */
const NOT_READING = -1;

export class SoftVm implements Vm {
  readonly memory: SoftMemory;
  readonly handle: SoftVmHandle;
  readonly board: Board;
  readonly map: MemoryMap;
  readonly interrupts: InterruptController;
  readonly record: VmRecord;
  readonly clock: MachineClock;
  readonly #owner: boolean;
  /** The vCPU that this thread runs at present. */
  running: SoftVcpu | undefined;

  readonly #makeVcpu: VcpuMaker;

  private constructor(handle: SoftVmHandle, board: Board, owner: boolean, makeVcpu: VcpuMaker) {
    this.#makeVcpu = makeVcpu;
    this.handle = handle;
    this.memory = handle.memory;
    this.board = board;
    this.map = new MemoryMap(handle.map);
    this.record = new VmRecord(handle.record);
    this.clock = new MachineClock(this.record);
    this.#owner = owner;
    this.interrupts = new InterruptController(handle.interrupts, 0, MAX_VCPUS, {
      nowNs: () => this.clock.hostNs(),
      wake: (index) => {
        const slot = this.record.vcpuSlot(index);
        if (slot < 0) return;
        // Code that was written for whom the interrupt is for is not to be written unnoticed.
        if (this.running !== undefined && this.running.slot !== slot) this.running.attendToMemory();
        this.board.ask(slot, Attention.INTERRUPT);
      },
      resample: (gsi) => {
        for (const entry of this.record.irqfds()) {
          if (entry.gsi === gsi && entry.resample >= 0) this.board.signal(entry.resample);
        }
      },
    });
  }

  static create(board: Board, memory: SoftMemory, makeVcpu: VcpuMaker): SoftVm {
    const { sizeBytes, wasm } = memory;
    const codeAt = growMemory(memory, Math.ceil(MemoryMap.codeBytes(sizeBytes) / WASM_PAGE)) * WASM_PAGE;
    const handle: SoftVmHandle = {
      kind: "soft",
      memory,
      board: board.buffer,
      map: MemoryMap.create(sizeBytes, { buffer: wasm.buffer, at: codeAt }).handle,
      interrupts: new SharedArrayBuffer(interruptAreaBytes(MAX_VCPUS)),
      record: new VmRecord().buffer,
      coalesced: new SharedArrayBuffer(4096),
      rings: [],
    };
    const vm = new SoftVm(handle, board, true, makeVcpu);
    vm.clock.begin();
    return vm;
  }

  static attach(handle: SoftVmHandle, makeVcpu: VcpuMaker): SoftVm {
    return new SoftVm(handle, new Board(handle.board), false, makeVcpu);
  }

  checkExtension(capability: Capability): number {
    this.#open();
    return checkExtension(capability);
  }

  enableCapability(capability: Capability, ...args: bigint[]): void {
    this.#open();
    const argument = Number(args[0] ?? 0n);
    switch (capability) {
      case Capability.SPLIT_IRQCHIP:
        this.enableSplitIrqchip(argument);
        return;
      case Capability.MANUAL_DIRTY_LOG_PROTECT2:
        this.record.manualDirtyLog = argument;
        return;
      case Capability.X86_USER_SPACE_MSR:
        this.record.msrExits = argument;
        return;
      case Capability.EXIT_HYPERCALL:
        if (argument & ~EXITING_HYPERCALLS) {
          throw new KvmError(
            "KVM_INVALID",
            `exits for hypercalls 0x${argument.toString(16)}: only 12 can be asked for`,
          );
        }
        this.record.hypercallExits = argument;
        return;
      case Capability.EXCEPTION_PAYLOAD:
        this.record.exceptionPayload = argument !== 0;
        return;
      case Capability.X2APIC_API:
        this.interrupts.configure({ x2apicApi: argument });
        return;
      case Capability.HALT_POLL:
        // A halted vCPU sleeps at once; there is nothing to poll for.
        return;
      default:
        throw new KvmError(
          "KVM_REQUEST_FAILED",
          `enabling ${capabilityName(capability)}: the software hypervisor does not know it`,
        );
    }
  }

  setMemorySlot(slot: MemorySlot): void {
    this.#open();
    if (slot.sizeBytes === 0)
      throw new KvmError("KVM_INVALID", `memory slot ${slot.slot}: a slot has at least one page`);
    const old = this.map.slot(slot.slot);
    if (old !== undefined && (old.sizeBytes !== slot.sizeBytes || old.readOnly !== (slot.readOnly ?? false))) {
      throw new KvmError(
        "KVM_REQUEST_FAILED",
        `memory slot ${slot.slot}: a slot keeps its size and read-only flag until it is deleted`,
      );
    }
    this.map.setSlot(slot, (this.record.manualDirtyLog & ManualDirtyLog.INITIALLY_SET) !== 0);
    this.#tellAll(Attention.MEMORY);
  }
  memoryWritten(guestAddress: number, sizeBytes: number): void {
    this.#open();
    const { map } = this;
    let wasCode = false;
    for (let at = guestAddress - (guestAddress % PAGE); at < guestAddress + sizeBytes; at += PAGE) {
      if (!map.lookup(at)) continue;
      const page = Math.floor(map.offset / PAGE);
      if (!map.code.has(page)) continue;
      // The mark goes first: whoever makes code of the page from here on sets it again.
      map.code.clear(page);
      map.codeWrites.push(page, NOT_READING);
      wasCode = true;
    }
    if (wasCode) this.#tellAll(Attention.CODE);
  }
  deleteMemorySlot(slot: number): void {
    this.#open();
    this.map.deleteSlot(slot);
    this.#tellAll(Attention.MEMORY);
  }
  /** For Intel's processors; this one needs no such pages. */
  setTssAddress(): void {
    this.#open();
  }
  setIdentityMapAddress(): void {
    this.#open();
    if (this.record.openVcpus > 0) {
      throw new KvmError("KVM_REQUEST_FAILED", "identity map: set it before the first vCPU, and once");
    }
  }

  getDirtyLog(slot: number, bitmap: Uint8Array): void {
    this.#open();
    if (this.handle.rings.length > 0) {
      throw new KvmError(
        "KVM_REQUEST_FAILED",
        `dirty log of slot ${slot}: this machine has dirty rings, which exclude bitmaps`,
      );
    }
    const manual = this.record.manualDirtyLog !== 0;
    this.map.readDirty(slot, bitmap, !manual);
    // From here on the guest's next write to each page is noticed. Writes up to now are in memory when this returns.
    if (!manual) this.#tellAll(Attention.WRITES);
  }
  clearDirtyLog(slot: number, firstPage: number, pageCount: number, bitmap: Uint8Array): void {
    this.#open();
    this.map.clearDirty(slot, firstPage, pageCount, bitmap);
    this.#tellAll(Attention.WRITES);
  }
  enableManualDirtyLog(initiallySet = false): void {
    this.enableCapability(Capability.MANUAL_DIRTY_LOG_PROTECT2, initiallySet ? 3n : 1n);
  }
  enableDirtyRing(bytes: number): void {
    this.#open();
    if (this.record.openVcpus > 0) throw new KvmError("KVM_INVALID", "dirty rings are enabled before the first vCPU");
    const { rings } = this.handle;
    while (rings.length < MOST_VCPUS) rings.push(createRing(bytes));
  }
  resetDirtyRings(): number {
    this.#open();
    let count = 0;
    for (const ring of this.handle.rings) {
      count += new DirtyRingProducer(ring).reset((slot, page) => this.map.forgetDirty(slot, page));
    }
    if (count > 0) this.#tellAll(Attention.WRITES);
    return count;
  }

  createIrqchip(): void {
    this.#beforeVcpus("interrupt chips: create them before the first vCPU");
    if (this.interrupts.hasLocalApics) {
      throw new KvmError("KVM_REQUEST_FAILED", "interrupt chips: the machine has them already");
    }
    this.interrupts.createIrqchip();
  }
  enableSplitIrqchip(ioapicPins: number): void {
    this.#beforeVcpus("a split interrupt chip is enabled before the first vCPU");
    if (this.interrupts.hasLocalApics) {
      throw new KvmError("KVM_REQUEST_FAILED", "interrupt chips: the machine has them already");
    }
    this.interrupts.enableSplitIrqchip(ioapicPins);
  }
  createPit(options: { speaker?: boolean } = {}): void {
    if (!this.interrupts.hasIoapic) throw new KvmError("KVM_REQUEST_FAILED", "PIT: create the interrupt chips first");
    if (this.interrupts.hasPit) throw new KvmError("KVM_REQUEST_FAILED", "PIT: the machine has one already");
    this.interrupts.createPit(options);
  }
  getPic(chip: typeof Irqchip.PIC_MASTER | typeof Irqchip.PIC_SLAVE): PicState {
    return this.#chips().getPic(chip);
  }
  setPic(chip: typeof Irqchip.PIC_MASTER | typeof Irqchip.PIC_SLAVE, state: PicState): void {
    this.#chips().setPic(chip, state);
  }
  getIoapic(): IoapicState {
    return this.#chips().getIoapic();
  }
  setIoapic(state: IoapicState): void {
    this.#chips().setIoapic(state);
  }
  getPit(): PitState {
    this.#requirePit();
    return this.interrupts.getPit();
  }
  setPit(state: PitState): void {
    this.#requirePit();
    this.interrupts.setPit(state);
  }

  setIrqLine(gsi: number, high: boolean): number {
    this.#requireApics();
    return this.interrupts.setIrqLine(gsi, high);
  }
  setGsiRouting(routes: readonly GsiRoute[]): void {
    this.#requireApics();
    this.interrupts.setRouting(routes);
  }
  signalMsi(msi: Msi): number {
    this.#requireApics();
    return Math.max(0, this.interrupts.signalMsi(msi));
  }

  assignIrqfd(notifier: Notifier, gsi: number, resample?: Notifier): void {
    this.#requireApics();
    const slot = notifierSlot(notifier, this.board);
    const resampleSlot = resample === undefined ? -1 : notifierSlot(resample, this.board);
    this.record.addIrqfd({ notifier: slot, gsi, resample: resampleSlot });
    if (resample !== undefined) this.interrupts.setResample(gsi, true);
    this.claimIrqfds();
  }
  deassignIrqfd(notifier: Notifier, gsi: number): void {
    const entry = this.record.removeIrqfd(notifierSlot(notifier, this.board), gsi);
    if (entry === undefined) return;
    this.board.setOwner(entry.notifier, -1);
    const others = this.record.irqfds().some((other) => other.gsi === gsi && other.resample >= 0);
    if (entry.resample >= 0 && !others) this.interrupts.setResample(gsi, false);
  }
  /** Names the vCPU that injects the interrupts of notifiers: the first that is open. */
  claimIrqfds(): void {
    const owner = this.record.openSlots()[0] ?? -1;
    for (const entry of this.record.irqfds()) this.board.setOwner(entry.notifier, owner);
    if (owner >= 0) this.board.ask(owner, Attention.IRQFD);
  }
  /** Injects what notifiers have asked for since the last time. */
  injectIrqfds(): void {
    for (const { notifier, gsi, resample } of this.record.irqfds()) {
      if (this.board.takeCount(notifier) > 0) this.interrupts.signalIrqfd(gsi, resample >= 0);
    }
  }

  assignIoeventfd(notifier: Notifier, where: Doorbell): void {
    this.#open();
    this.record.addDoorbell(where, notifierSlot(notifier, this.board));
  }
  deassignIoeventfd(notifier: Notifier, where: Doorbell): void {
    this.#open();
    this.record.removeDoorbell(where, notifierSlot(notifier, this.board));
  }
  registerCoalescedZone(zone: CoalescedZoneRange): void {
    this.#open();
    this.record.addZone(zone);
  }
  unregisterCoalescedZone(zone: CoalescedZoneRange): void {
    this.#open();
    this.record.removeZone(zone);
  }

  getClock(): ClockData {
    this.#open();
    return this.clock.get();
  }
  setClock(clock: ClockData): void {
    this.#open();
    this.clock.set(clock);
    this.#tellAll(Attention.INTERRUPT);
  }
  setTscKhz(khz: number): void {
    if (!(Number.isInteger(khz) && khz > 0)) throw new KvmError("KVM_INVALID", `a TSC of ${khz} kHz`);
    this.record.tscKhz = khz;
  }
  getTscKhz(): number {
    return this.record.tscKhz;
  }
  setHaltPollNs(): void {
    this.#open();
  }

  setMsrExits(reasons: number): void {
    this.enableCapability(Capability.X86_USER_SPACE_MSR, BigInt(reasons));
  }
  setMsrFilter(ranges: readonly MsrFilterRange[], options: { denyByDefault?: boolean } = {}): void {
    this.#open();
    this.record.setFilter(ranges, options.denyByDefault ?? false);
  }

  createVcpu(id: number): Vcpu {
    this.#open();
    return this.#makeVcpu(this, id);
  }

  close(): void {
    if (!this.#owner || this.record.closed) return;
    const open = this.record.openVcpus;
    if (open > 0) {
      throw new KvmError(
        "KVM_IN_USE",
        `${open} of the machine's vCPUs are open: kick them, and let their threads close them first`,
      );
    }
    this.record.markClosed();
  }

  [Symbol.dispose](): void {
    this.close();
  }

  /** Room behind the guest's memory, for a vCPU's state; returns its first page of 64 KiB. */
  growMemory(pages: number): number {
    return growMemory(this.memory, pages);
  }

  /** Asks all vCPUs but one, and does not wait. */
  askOthers(own: number, bits: number): void {
    if (this.record.openVcpus <= 1) return;
    for (const slot of this.record.openSlots()) if (slot !== own) this.board.ask(slot, bits);
  }

  #open(): void {
    if (this.record.closed) throw new KvmError("KVM_CLOSED", "this machine is closed");
  }

  /** Asks all vCPUs but one; what is returned says whether they have looked. */
  askOthersFor(own: number, bits: number): () => boolean {
    const asked = this.record
      .openSlots()
      .filter((slot) => slot !== own)
      .map((slot) => this.board.askFor(slot, bits));
    return () => asked.every((hasLooked) => hasLooked());
  }

  /** Every vCPU has taken note when this returns, or will before it runs the guest again. */
  #tellAll(bits: number): void {
    for (const slot of this.record.openSlots()) this.board.askAndWait(slot, bits);
  }

  #beforeVcpus(message: string): void {
    this.#open();
    if (this.record.openVcpus > 0) throw new KvmError("KVM_REQUEST_FAILED", message);
  }

  #requireApics(): void {
    this.#open();
    if (this.interrupts.hasLocalApics) return;
    throw new KvmError("KVM_REQUEST_FAILED", "the machine has no interrupt chip; create it first");
  }
  #chips(): InterruptController {
    this.#open();
    if (this.interrupts.hasIoapic) return this.interrupts;
    throw new KvmError("KVM_REQUEST_FAILED", "the machine has no interrupt chip; create it first");
  }
  #requirePit(): void {
    this.#open();
    if (!this.interrupts.hasPit) throw new KvmError("KVM_REQUEST_FAILED", "the machine has no PIT; create it first");
  }
}
