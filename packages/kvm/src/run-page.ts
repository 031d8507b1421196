/**
 * The page that a vCPU shares with its monitor, as properties. Reading one is a load from the page and writing one a
 * store to it: nothing is copied or allocated, so exits are handled at the page's own speed. Values hold until the next
 * run.
 */

import { VcpuEvents } from "./layout/events.ts";
import { Regs, Sregs } from "./layout/registers.ts";
import { Run, RunExit, SyncRegs } from "./layout/run.ts";
import { readNumber64 } from "./layout/struct.ts";

const at = Run.offset;
/** Offsets of the union's members from the start of the page. */
const io = RunExit.io.offset;
const mmio = RunExit.mmio.offset;
const msr = RunExit.msr.offset;
const hypercall = RunExit.hypercall.offset;

export class RunPage {
  /** The whole page, with the port data that follows it. For handlers that move data themselves. */
  readonly view: DataView;
  // Made when somebody asks for them: a vCPU is created sooner.
  #exits: Exits | undefined;
  #bytes: Uint8Array | undefined;

  constructor(buffer: ArrayBufferLike, byteOffset = 0, byteLength: number = buffer.byteLength - byteOffset) {
    this.view = new DataView(buffer, byteOffset, byteLength);
  }

  get io(): IoExit {
    return this.#union.io;
  }
  get mmio(): MmioExit {
    return this.#union.mmio;
  }
  get msr(): MsrExit {
    return this.#union.msr;
  }
  get hypercall(): HypercallExit {
    return this.#union.hypercall;
  }
  get debug(): DebugExit {
    return this.#union.debug;
  }
  get internal(): InternalErrorExit {
    return this.#union.internal;
  }
  get failEntry(): FailEntryExit {
    return this.#union.failEntry;
  }
  get systemEvent(): SystemEventExit {
    return this.#union.systemEvent;
  }
  get memoryFault(): MemoryFaultExit {
    return this.#union.memoryFault;
  }
  get #union(): Exits {
    this.#exits ??= new Exits(this.view);
    return this.#exits;
  }

  /** Asks for an `IRQ_WINDOW_OPEN` exit as soon as the guest can take an interrupt (no in-kernel interrupt chip). */
  set requestInterruptWindow(wanted: boolean) {
    this.view.setUint8(at.requestInterruptWindow, wanted ? 1 : 0);
  }

  /** Makes the next run return at once with `INTR`. Other threads set it too, so it is read and written atomically. */
  get immediateExit(): boolean {
    return Atomics.load(this.#atomics, at.immediateExit) !== 0;
  }
  set immediateExit(wanted: boolean) {
    Atomics.store(this.#atomics, at.immediateExit, wanted ? 1 : 0);
  }
  get #atomics(): Uint8Array {
    this.#bytes ??= new Uint8Array(this.view.buffer, this.view.byteOffset, this.view.byteLength);
    return this.#bytes;
  }

  get exitReason(): number {
    return this.view.getUint32(at.exitReason, true);
  }
  get readyForInterruptInjection(): boolean {
    return this.view.getUint8(at.readyForInterruptInjection) !== 0;
  }
  /** The guest's interrupt flag. */
  get ifFlag(): boolean {
    return this.view.getUint8(at.ifFlag) !== 0;
  }
  /** KVM_RUN_X86_*: in system management mode, bus lock, nested guest. */
  get flags(): number {
    return this.view.getUint16(at.flags, true);
  }
  /** The task priority, in and out, when the interrupt chip is not in the kernel. */
  get cr8(): bigint {
    return this.view.getBigUint64(at.cr8, true);
  }
  set cr8(value: bigint) {
    this.view.setBigUint64(at.cr8, value, true);
  }
  get apicBase(): bigint {
    return this.view.getBigUint64(at.apicBase, true);
  }

  /** `UNKNOWN`: what the hardware said. */
  get hardwareExitReason(): bigint {
    return this.view.getBigUint64(at.exit, true);
  }
  /** `IOAPIC_EOI`: the vector that a level-triggered interrupt was ended on (split interrupt chip). */
  get eoiVector(): number {
    return this.view.getUint8(at.exit + RunExit.eoi.offset.vector);
  }
  /** `NOTIFY`: KVM_NOTIFY_* flags. */
  get notifyFlags(): number {
    return this.view.getUint32(at.exit + RunExit.notify.offset.flags, true);
  }
  /** `TPR_ACCESS`: the instruction that accessed it. */
  get tprAccessRip(): bigint {
    return this.view.getBigUint64(at.exit + RunExit.tprAccess.offset.rip, true);
  }

  /** Which registers every exit brings along: a mask of `SyncRegsFlag`. */
  set validRegs(mask: bigint) {
    this.view.setBigUint64(at.kvmValidRegs, mask, true);
  }
  /** Which of the registers below the next run takes over; the kernel clears it. */
  get dirtyRegs(): bigint {
    return this.view.getBigUint64(at.kvmDirtyRegs, true);
  }
  set dirtyRegs(mask: bigint) {
    this.view.setBigUint64(at.kvmDirtyRegs, mask, true);
  }
  get syncRegs(): Regs {
    return Regs.read(this.view, at.sync + SyncRegs.offset.regs);
  }
  set syncRegs(value: Regs) {
    Regs.write(this.view, at.sync + SyncRegs.offset.regs, value);
  }
  get syncSregs(): Sregs {
    return Sregs.read(this.view, at.sync + SyncRegs.offset.sregs);
  }
  set syncSregs(value: Sregs) {
    Sregs.write(this.view, at.sync + SyncRegs.offset.sregs, value);
  }
  get syncEvents(): VcpuEvents {
    return VcpuEvents.read(this.view, at.sync + SyncRegs.offset.events);
  }
  set syncEvents(value: VcpuEvents) {
    VcpuEvents.write(this.view, at.sync + SyncRegs.offset.events, value);
  }
}

/** One member of the exits' union. */
class Exit {
  protected readonly view: DataView;
  constructor(view: DataView) {
    this.view = view;
  }
}

/** `IO`: `count` accesses of `size` bytes to one port, packed at `dataOffset` of the page. An input is answered there. */
class IoExit extends Exit {
  get isOut(): boolean {
    return this.view.getUint8(at.exit + io.direction) === 1;
  }
  get size(): number {
    return this.view.getUint8(at.exit + io.size);
  }
  get port(): number {
    return this.view.getUint16(at.exit + io.port, true);
  }
  get count(): number {
    return this.view.getUint32(at.exit + io.count, true);
  }
  get dataOffset(): number {
    return readNumber64(this.view, at.exit + io.dataOffset);
  }
  /** The `index`th value of an output. */
  value(index = 0): number {
    const offset = this.dataOffset + index * this.size;
    switch (this.size) {
      case 1:
        return this.view.getUint8(offset);
      case 2:
        return this.view.getUint16(offset, true);
      default:
        return this.view.getUint32(offset, true);
    }
  }
  /** Answers the `index`th access of an input. */
  answer(value: number, index = 0): void {
    const offset = this.dataOffset + index * this.size;
    if (this.size === 1) this.view.setUint8(offset, value);
    else if (this.size === 2) this.view.setUint16(offset, value, true);
    else this.view.setUint32(offset, value, true);
  }
}

/** `MMIO`: an access of 1 to 8 bytes to guest physical memory that no slot backs. */
class MmioExit extends Exit {
  get address(): number {
    return readNumber64(this.view, at.exit + mmio.physAddr);
  }
  get length(): number {
    return this.view.getUint32(at.exit + mmio.len, true);
  }
  get isWrite(): boolean {
    return this.view.getUint8(at.exit + mmio.isWrite) !== 0;
  }
  /** The value written, exact for up to 4 bytes; an 8-byte one is `low + high * 2 ** 32`. */
  get low(): number {
    const offset = at.exit + mmio.data;
    switch (this.length) {
      case 1:
        return this.view.getUint8(offset);
      case 2:
        return this.view.getUint16(offset, true);
      default:
        return this.view.getUint32(offset, true);
    }
  }
  /** The upper half of an 8-byte write. */
  get high(): number {
    return this.view.getUint32(at.exit + mmio.data + 4, true);
  }
  /** Answers a read: the low 32 bits, and the upper ones of an 8-byte read. */
  answer(low: number, high = 0): void {
    this.view.setUint32(at.exit + mmio.data, low, true);
    this.view.setUint32(at.exit + mmio.data + 4, high, true);
  }
}

/** `X86_RDMSR` and `X86_WRMSR`: an MSR access that the monitor answers. */
class MsrExit extends Exit {
  get index(): number {
    return this.view.getUint32(at.exit + msr.index, true);
  }
  /** One bit of `MsrExitReason`. */
  get reason(): number {
    return this.view.getUint32(at.exit + msr.reason, true);
  }
  get data(): bigint {
    return this.view.getBigUint64(at.exit + msr.data, true);
  }
  set data(value: bigint) {
    this.view.setBigUint64(at.exit + msr.data, value, true);
  }
  /** True injects a #GP instead of completing the access. */
  set error(refused: boolean) {
    this.view.setUint8(at.exit + msr.error, refused ? 1 : 0);
  }
}

/** `HYPERCALL`: those that `KVM_CAP_EXIT_HYPERCALL` hands over. */
class HypercallExit extends Exit {
  get nr(): bigint {
    return this.view.getBigUint64(at.exit + hypercall.nr, true);
  }
  argument(index: number): bigint {
    return this.view.getBigUint64(at.exit + hypercall.args + index * 8, true);
  }
  set result(value: bigint) {
    this.view.setBigUint64(at.exit + hypercall.ret, value, true);
  }
}

/** `DEBUG`: a breakpoint or a single step. */
class DebugExit extends Exit {
  get exception(): number {
    return this.view.getUint32(at.exit + RunExit.debug.offset.exception, true);
  }
  /** The linear address of the instruction. */
  get pc(): bigint {
    return this.view.getBigUint64(at.exit + RunExit.debug.offset.pc, true);
  }
  get dr6(): bigint {
    return this.view.getBigUint64(at.exit + RunExit.debug.offset.dr6, true);
  }
  get dr7(): bigint {
    return this.view.getBigUint64(at.exit + RunExit.debug.offset.dr7, true);
  }
}

/** `INTERNAL_ERROR`: KVM gave up. */
class InternalErrorExit extends Exit {
  get suberror(): number {
    return this.view.getUint32(at.exit + RunExit.internal.offset.suberror, true);
  }
  /** What KVM adds; its meaning depends on `suberror`. */
  get data(): bigint[] {
    const count = Math.min(this.view.getUint32(at.exit + RunExit.internal.offset.ndata, true), 16);
    return Array.from({ length: count }, (_, index) =>
      this.view.getBigUint64(at.exit + RunExit.internal.offset.data + index * 8, true),
    );
  }
  /** The bytes of the instruction that could not be emulated, when KVM has them. */
  get instruction(): Uint8Array {
    const failure = RunExit.emulationFailure.offset;
    const flags = this.data.length > 0 ? this.view.getUint32(at.exit + failure.flags, true) : 0;
    const size = flags & 1 ? Math.min(this.view.getUint8(at.exit + failure.insnSize), 15) : 0;
    return new Uint8Array(this.view.buffer, this.view.byteOffset + at.exit + failure.insnBytes, size).slice();
  }
}

/** `FAIL_ENTRY`: the processor refused the guest's state. */
class FailEntryExit extends Exit {
  get reason(): bigint {
    return this.view.getBigUint64(at.exit + RunExit.failEntry.offset.hardwareEntryFailureReason, true);
  }
  get cpu(): number {
    return this.view.getUint32(at.exit + RunExit.failEntry.offset.cpu, true);
  }
}

/** `SYSTEM_EVENT`: shutdown, reset or crash asked for by the guest through KVM. */
class SystemEventExit extends Exit {
  /** KVM_SYSTEM_EVENT_*. */
  get type(): number {
    return this.view.getUint32(at.exit + RunExit.systemEvent.offset.type, true);
  }
}

/** `MEMORY_FAULT`: an access that needs the monitor to change the memory's attributes first. */
class MemoryFaultExit extends Exit {
  get address(): number {
    return readNumber64(this.view, at.exit + RunExit.memoryFault.offset.gpa);
  }
  get size(): number {
    return readNumber64(this.view, at.exit + RunExit.memoryFault.offset.size);
  }
}

/** The union's members. */
class Exits {
  readonly io: IoExit;
  readonly mmio: MmioExit;
  readonly msr: MsrExit;
  readonly hypercall: HypercallExit;
  readonly debug: DebugExit;
  readonly internal: InternalErrorExit;
  readonly failEntry: FailEntryExit;
  readonly systemEvent: SystemEventExit;
  readonly memoryFault: MemoryFaultExit;

  constructor(view: DataView) {
    this.io = new IoExit(view);
    this.mmio = new MmioExit(view);
    this.msr = new MsrExit(view);
    this.hypercall = new HypercallExit(view);
    this.debug = new DebugExit(view);
    this.internal = new InternalErrorExit(view);
    this.failEntry = new FailEntryExit(view);
    this.systemEvent = new SystemEventExit(view);
    this.memoryFault = new MemoryFaultExit(view);
  }
}
