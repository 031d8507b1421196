/** A vCPU of the software hypervisor: the core with its interrupt controller, clock, run page and doorbells. */

import {
  type Capability,
  CoalescedRing,
  type CpuidEntry,
  type DebugRegs,
  DirtyRing,
  ExitReason,
  type Fpu,
  type GuestDebug,
  GuestDebugControl,
  KvmError,
  MpState,
  type MsrEntry,
  type NearDevices,
  type Regs,
  Run,
  RunExit,
  RunPage,
  type Sregs,
  type Sregs2,
  SyncRegsFlag,
  type Translation,
  type Vcpu,
  type VcpuEvents,
  type Xcrs,
} from "@lodge/kvm";
import type { CompileThread } from "../compiler/compile-thread.ts";
import { VcpuInterrupts } from "../interrupts/index.ts";
import { getFpu, getXcrs, getXsave, setFpu, setXcrs, setXsave } from "../system/fpu-records.ts";
import { getDebugRegs, getRegs, setDebugRegs, setRegs } from "../system/regs.ts";
import { resetProcessor } from "../system/reset.ts";
import { getSregs, getSregs2, setSregs, setSregs2 } from "../system/sregs.ts";
import { getEvents, setEvents } from "../system/vcpu-events.ts";
import { Attention } from "./board.ts";
import type { CodeStore } from "./code-store.ts";
import { Core } from "./core.ts";
import { checkCpuid, decodedFeatures } from "./cpu-models.ts";
import { CpuidTable } from "./cpuid.ts";
import { DirtyRingProducer } from "./dirty-rings.ts";
import { ExitWriter } from "./exits.ts";
import { Hypercalls } from "./hypercalls.ts";
import { LocalBus } from "./local-bus.ts";
import { areaBytes, WASM_PAGE } from "./memory.ts";
import { MsrBank } from "./msrs.ts";
import { NearAccesses } from "./near-accesses.ts";
import type { SoftKickHandle } from "./notifier.ts";
import type { SoftServices } from "./open.ts";
import { surround } from "./surroundings.ts";
import type { SoftVm } from "./vm.ts";

/** The run page, and the page of port data behind it, as the kernel lays them out. */
const RUN_BYTES = 8192;

export class SoftVcpu implements Vcpu {
  readonly id: number;
  readonly page: RunPage;
  readonly kickHandle: SoftKickHandle;
  readonly coalescedRing: CoalescedRing;
  readonly dirtyRing: DirtyRing | undefined;
  /** Its slot on the board. */
  readonly slot: number;
  readonly vm: SoftVm;
  readonly core: Core;
  readonly interrupts: VcpuInterrupts;
  readonly cpuid = new CpuidTable();
  readonly msrs: MsrBank;
  readonly hypercalls = new Hypercalls(this);
  readonly #index: number;
  readonly #near = new NearAccesses(this);
  readonly #exits: ExitWriter;
  readonly #ring: DirtyRingProducer | undefined;
  #debug: GuestDebug | undefined;
  /** For the first vCPU, which boots. */
  readonly codeStore: CodeStore | undefined;
  /** What compiles beside this thread. */
  readonly compileThread: CompileThread | undefined;
  /** The host's, for the time when it has been halted for a while. */
  readonly idle: (() => void) | undefined;
  #open = true;
  #hasRun = false;

  constructor(vm: SoftVm, id: number, services: SoftServices = {}) {
    this.vm = vm;
    this.id = id;
    this.idle = services.idle;
    const { interrupts, record, board } = vm;
    if (!(Number.isInteger(id) && id >= 0 && id < 256)) {
      throw new KvmError("KVM_REQUEST_FAILED", `vCPU ${id}: the id is above what this host allows (255)`);
    }
    if (interrupts.bus.ports.some((port) => port.id === id)) {
      throw new KvmError(
        "KVM_REQUEST_FAILED",
        `vCPU ${id}: the machine has one with this id; a vCPU is used by the thread that created it`,
      );
    }
    this.#index = interrupts.addApic(id);
    if (this.#index < 0) throw new KvmError("KVM_REQUEST_FAILED", `vCPU ${id}: the machine has as many as it can`);
    this.codeStore = this.#index === 0 ? services.codeStore : undefined;
    this.compileThread = services.compileThread?.();
    const bytes = areaBytes(vm.memory);
    const base = record.area(this.#index, () => vm.growMemory(bytes / WASM_PAGE)) * WASM_PAGE;
    this.slot = board.openVcpu();
    this.page = new RunPage(new SharedArrayBuffer(RUN_BYTES));
    this.coalescedRing = new CoalescedRing(vm.handle.coalesced, 0);
    this.kickHandle = { kind: "soft", board: board.buffer, slot: this.slot, closed: new SharedArrayBuffer(4) };

    const ring = vm.handle.rings[this.#index];
    if (ring !== undefined) {
      this.dirtyRing = new DirtyRing(ring.entries);
      this.#ring = new DirtyRingProducer(ring);
    }

    this.msrs = new MsrBank(this);
    const local = new LocalBus(vm, this.coalescedRing, () => this.interrupts, this.#near);
    this.core = new Core(vm.memory.wasm as WebAssembly.Memory, { base, bytes }, vm.map, surround(this, local));
    this.interrupts = new VcpuInterrupts(
      interrupts,
      this.#index,
      {
        nowNs: () => vm.clock.hostNs(),
        tscToNs: (tsc) => vm.clock.ticksToNs(tsc - this.msrs.tscOffset),
      },
      guestBytes(vm),
    );
    this.interrupts.reset();
    if (interrupts.hasLocalApics && id !== 0) this.core.mpState = MpState.UNINITIALIZED;
    this.#exits = new ExitWriter(this);
    resetProcessor(this.core.processor, "power-up");
    record.vcpuOpened(this.#index, this.slot);
    vm.claimIrqfds();
  }

  run(): ExitReason {
    this.#check();
    const { board } = this.vm;
    this.#takeSyncRegs();
    this.#exits.takeAnswer();
    // Machines may have several vCPUs in one thread; the one that runs is the one that writes.
    const ring = this.#ring;
    this.vm.map.dirtied = ring && ((slot, page) => ring.push(slot, page));
    if (!this.#hasRun) this.core.beginCode();
    this.#hasRun = true;
    this.msrs.kvmclock.catchUp();
    board.enterGuest(this.slot);
    let reason: ExitReason;
    this.vm.running = this;
    try {
      reason = this.core.run();
    } finally {
      this.vm.running = undefined;
      board.leaveGuest(this.slot);
    }
    this.#exits.write(reason);
    this.#giveSyncRegs();
    return reason;
  }

  completeExit(): void {
    this.page.immediateExit = true;
    this.run();
  }

  attachDevices(devices: NearDevices): void {
    this.#near.devices = devices;
  }

  getRegs(): Regs {
    return getRegs(this.#check().processor);
  }
  setRegs(regs: Regs): void {
    const { processor } = this.#check();
    if (processor.rip !== regs.rip) {
      this.msrs.forgetRequest();
      this.hypercalls.forgetRequest();
    }
    setRegs(processor, regs);
  }
  getSregs(): Sregs {
    return getSregs(this.#check().processor);
  }
  setSregs(sregs: Sregs): void {
    setSregs(this.#check().processor, sregs);
  }
  getSregs2(): Sregs2 {
    return getSregs2(this.#check().processor);
  }
  setSregs2(sregs: Sregs2): void {
    setSregs2(this.#check().processor, sregs);
  }
  getFpu(): Fpu {
    return getFpu(this.#check().processor);
  }
  setFpu(fpu: Fpu): void {
    setFpu(this.#check().processor, fpu);
  }
  getXsave(): Uint8Array {
    return getXsave(this.#check().processor);
  }
  setXsave(area: Uint8Array): void {
    setXsave(this.#check().processor, area);
  }
  getXcrs(): Xcrs {
    return getXcrs(this.#check().processor);
  }
  setXcrs(xcrs: Xcrs): void {
    setXcrs(this.#check().processor, xcrs);
  }
  getDebugRegs(): DebugRegs {
    return getDebugRegs(this.#check().processor);
  }
  setDebugRegs(regs: DebugRegs): void {
    setDebugRegs(this.#check().processor, regs);
  }

  getLapic(): Uint8Array {
    this.#requireApic();
    this.vm.injectIrqfds();
    return this.interrupts.getLapic();
  }
  setLapic(registers: Uint8Array): void {
    this.#requireApic();
    if (registers.length !== 1024)
      throw new KvmError("KVM_INVALID", `a local APIC of ${registers.length} bytes, not 1024`);
    if (this.interrupts.setLapic(registers)) return;
    throw new KvmError("KVM_REQUEST_FAILED", `local APIC of vCPU ${this.id}: its id is another processor's`);
  }

  getMpState(): MpState {
    return this.#check().mpState;
  }
  setMpState(state: MpState): void {
    const core = this.#check();
    if (!this.vm.interrupts.hasLocalApics && state !== MpState.RUNNABLE) {
      throw new KvmError("KVM_REQUEST_FAILED", `vCPU ${this.id}: without an interrupt chip it can only be runnable`);
    }
    core.mpState = state === MpState.SIPI_RECEIVED ? MpState.INIT_RECEIVED : state;
    core.mustLook = true;
  }
  getEvents(): VcpuEvents {
    const { processor } = this.#check();
    processor.events.nmisPending = Math.min(2, processor.events.nmisPending + this.interrupts.takeNmis());
    return getEvents(processor);
  }
  setEvents(events: VcpuEvents): void {
    setEvents(this.#check().processor, events);
  }
  getNestedState(): undefined {
    this.#check();
    return undefined;
  }
  setNestedState(): void {
    throw new KvmError("KVM_CAPABILITY_MISSING", "the software processor runs no hypervisor inside the guest");
  }

  getMsrs(indices: readonly number[]): MsrEntry[] {
    this.#check();
    return indices.map((index) => ({ index, data: this.msrs.read(index) }));
  }
  setMsrs(entries: readonly MsrEntry[]): void {
    this.#check();
    for (const { index, data } of entries) this.msrs.write(index, data);
  }

  getCpuid(): CpuidEntry[] {
    this.#check();
    return this.cpuid.entries.map((entry) => ({ ...entry }));
  }
  setCpuid(entries: readonly CpuidEntry[]): void {
    const { processor } = this.#check();
    // What the guest has seen stays; the same leaves once more are fine.
    if (this.#hasRun && !this.cpuid.equals(entries)) {
      throw new KvmError("KVM_REQUEST_FAILED", `CPUID of vCPU ${this.id}: the vCPU has run already`);
    }
    checkCpuid(entries, `CPUID of vCPU ${this.id}`);
    this.cpuid.set(entries);
    processor.updateFeatures();
    this.core.decodeAs(decodedFeatures(entries));
    this.interrupts.setFeatures(this.cpuid.apicFeatures());
  }
  getTscKhz(): number {
    this.#check();
    return this.vm.record.tscKhz;
  }
  setTscKhz(khz: number): void {
    this.#check();
    this.vm.setTscKhz(khz);
  }

  setGuestDebug(debug: GuestDebug): void {
    const { debug: control } = this.#check();
    const { ENABLE, SINGLESTEP, USE_SW_BP, USE_HW_BP, INJECT_BP, INJECT_DB } = GuestDebugControl;
    const on = (bit: number) => (debug.control & ENABLE) !== 0 && (debug.control & bit) !== 0;
    if (debug.control & (INJECT_BP | INJECT_DB)) {
      this.core.processor.events.exception = {
        vector: debug.control & INJECT_BP ? 3 : 1,
        error: undefined,
        payload: undefined,
        soft: (debug.control & INJECT_BP) !== 0,
      };
    }
    this.#debug = debug;
    control.singleStep = on(SINGLESTEP);
    control.softwareBreakpoints = on(USE_SW_BP);
    const dr7 = Number(debug.debugreg[7] ?? 0n);
    const execution = (index: number) => (dr7 >> (index * 2)) & 3 && ((dr7 >> (16 + index * 4)) & 3) === 0;
    control.breakpoints = on(USE_HW_BP)
      ? [0, 1, 2, 3].map((index) => (execution(index) ? debug.debugreg[index] : undefined))
      : [];
    control.watchFor(on(USE_HW_BP) ? debug.debugreg : undefined);
  }

  injectNmi(): void {
    this.#check();
    this.interrupts.queueNmi();
    this.core.mustLook = true;
  }
  injectInterrupt(vector: number): void {
    const { processor } = this.#check();
    const subject = `interrupt vector ${vector}`;
    if (!(Number.isInteger(vector) && vector >= 0 && vector < 256)) {
      throw new KvmError("KVM_REQUEST_FAILED", `${subject}: a vector is 0 to 255`);
    }
    if (this.vm.interrupts.hasIoapic) {
      throw new KvmError(
        "KVM_REQUEST_FAILED",
        `${subject}: the machine has an interrupt chip in the hypervisor, which injects for itself`,
      );
    }
    if (processor.events.interrupt >= 0) {
      throw new KvmError("KVM_REQUEST_FAILED", `${subject}: another interrupt waits to be injected`);
    }
    processor.events.interrupt = vector;
    this.core.mustLook = true;
  }

  translate(linearAddress: bigint): Translation {
    const gpa = this.#check().access.translate(Number(BigInt.asIntN(64, linearAddress)));
    const valid = gpa >= 0;
    return { linearAddress, physicalAddress: valid ? gpa : 0, valid: valid ? 1 : 0, writeable: 1, usermode: 0 };
  }

  notifyPaused(): boolean {
    this.#check();
    return this.msrs.kvmclock.notePaused();
  }

  enableCapability(capability: Capability): void {
    throw new KvmError("KVM_CAPABILITY_MISSING", `capability ${capability} is not one of a single vCPU`);
  }

  close(): void {
    if (!this.#open) return;
    this.#open = false;
    this.core.keepCode();
    Atomics.store(new Int32Array(this.kickHandle.closed), 0, 1);
    this.vm.record.vcpuClosed(this.#index);
    this.vm.board.closeVcpu(this.slot);
    this.vm.claimIrqfds();
  }

  [Symbol.dispose](): void {
    this.close();
  }

  /** What the guest's debug registers are overridden by. */
  get guestDebug(): GuestDebug | undefined {
    return this.#debug;
  }

  /** Attends to what other threads ask for. */
  attend(): ExitReason | undefined {
    const { board } = this.vm;
    const asked = board.take(this.slot);
    if (asked !== 0) {
      this.#lookAtMemory(asked);
      if (asked & Attention.IRQFD) this.vm.injectIrqfds();
      if (this.vm.interrupts.hasLocalApics) this.interrupts.followRoutes();
      board.looked(this.slot);
    }
    if (asked & Attention.KICK || this.page.immediateExit) {
      this.page.immediateExit = false;
      return ExitReason.INTR;
    }
    if (this.#ring?.isFull) return ExitReason.DIRTY_RING_FULL;
    if (this.vm.interrupts.hasLocalApics && !this.vm.interrupts.hasIoapic) {
      const ended = this.interrupts.takeIoapicEoi();
      if (ended > 0) {
        this.page.view.setUint8(Run.offset.exit + RunExit.eoi.offset.vector, ended - 1);
        return ExitReason.IOAPIC_EOI;
      }
    }
    return undefined;
  }

  /** The part of {@link attend} that may come within an instruction; the rest waits. */
  attendToMemory(): void {
    const { board } = this.vm;
    if (!board.isAsked(this.slot)) return;
    const asked = board.take(this.slot);
    this.#lookAtMemory(asked);
    const rest = asked & ~(Attention.MEMORY | Attention.WRITES | Attention.CODE);
    if (rest !== 0) board.ask(this.slot, rest);
    board.looked(this.slot);
  }

  #lookAtMemory(asked: number): void {
    if (asked & Attention.MEMORY) this.core.memoryChanged();
    if (asked & Attention.WRITES) this.core.writesChanged();
    if (asked & Attention.CODE) this.core.codeChanged();
  }

  #check(): Core {
    if (!this.#open) throw new KvmError("KVM_CLOSED", `vCPU ${this.id} is closed`);
    return this.core;
  }

  #requireApic(): void {
    this.#check();
    if (this.vm.interrupts.hasLocalApics) return;
    throw new KvmError("KVM_REQUEST_FAILED", "the machine's local APICs are not in the hypervisor; create them first");
  }

  #takeSyncRegs(): void {
    if (!isSet(this.page.view, Run.offset.kvmDirtyRegs)) return;
    const dirty = this.page.dirtyRegs;
    if (dirty & SyncRegsFlag.REGS) this.setRegs(this.page.syncRegs);
    if (dirty & SyncRegsFlag.SREGS) this.setSregs(this.page.syncSregs);
    if (dirty & SyncRegsFlag.EVENTS) this.setEvents(this.page.syncEvents);
    this.page.dirtyRegs = 0n;
  }

  #giveSyncRegs(): void {
    if (!isSet(this.page.view, Run.offset.kvmValidRegs)) return;
    const wanted = this.page.view.getBigUint64(Run.offset.kvmValidRegs, true);
    if (wanted & SyncRegsFlag.REGS) this.page.syncRegs = this.getRegs();
    if (wanted & SyncRegsFlag.SREGS) this.page.syncSregs = this.getSregs();
    if (wanted & SyncRegsFlag.EVENTS) this.page.syncEvents = this.getEvents();
  }
}

/** Whether 64 bits of the run page are not all 0, without a bigint: they are looked at on every way in and out. */
function isSet(view: DataView, at: number): boolean {
  return view.getUint32(at, true) !== 0 || view.getUint32(at + 4, true) !== 0;
}

/** Guest physical memory by the byte, for what the interrupt controller shares with the guest (PV EOI). */
function guestBytes(vm: SoftVm) {
  const bytes = new Uint8Array(vm.memory.buffer);
  return {
    readByte: (gpa: number) => (vm.map.lookup(gpa) ? bytes[vm.map.offset]! : -1),
    writeByte: (gpa: number, value: number) => {
      if (!vm.map.lookup(gpa)) return false;
      bytes[vm.map.offset] = value;
      return true;
    },
  };
}
