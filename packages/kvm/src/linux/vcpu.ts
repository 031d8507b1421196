/** A vCPU of the kernel's KVM. */

import { markAsUncloneable } from "node:worker_threads";
import {
  Advice,
  close,
  Errno,
  MapFlag,
  Mapping,
  madvise,
  mmap,
  munmap,
  Protection,
  SystemError,
  tryIoctl,
} from "@lodge/linux";
import { Capability } from "../capability.ts";
import { CoalescedRing } from "../coalesced-ring.ts";
import { DirtyRing } from "../dirty-ring.ts";
import { KvmError } from "../errors.ts";
import { ExitReason } from "../exit-reason.ts";
import { GuestDebug, type MpState, MpStateRecord, NestedStateHeader, VcpuEvents } from "../layout/events.ts";
import { LapicState } from "../layout/interrupts.ts";
import {
  CPUID_HEADER,
  CpuidEntry,
  DebugRegs,
  Fpu,
  type MsrEntry,
  Regs,
  Sregs,
  Sregs2,
  Translation,
  Xcrs,
  XSAVE_SIZE,
} from "../layout/registers.ts";
import { Run } from "../layout/run.ts";
import { RunPage } from "../run-page.ts";
import type { Vcpu } from "../vcpu.ts";
import type { Vm } from "../vm.ts";
import { acceptKicks, type LinuxKickHandle } from "./kick.ts";
import { readMsrs, writeMsrs } from "./msrs.ts";
import { enableCapability, get, growing, request, requireCapability, set } from "./request.ts";
import { Request } from "./requests.ts";
import type { SharedVmRecord } from "./shared-record.ts";

const PAGE = 4096;
/** KVM_DIRTY_LOG_PAGE_OFFSET: where a vCPU's file has its dirty ring, in pages. */
const DIRTY_RING_PAGE = 64;

export class LinuxVcpu implements Vcpu {
  readonly id: number;
  readonly page: RunPage;
  readonly dirtyRing: DirtyRing | undefined;
  readonly #vm: Vm;
  readonly #record: SharedVmRecord;
  /** Among the record's. */
  readonly #index: number;
  readonly #ringMapping: Mapping | undefined;
  #kickHandle: LinuxKickHandle | undefined;
  #coalescedRing: CoalescedRing | undefined;
  #fd = -1;

  constructor(id: number, vm: Vm, vmFd: number, record: SharedVmRecord) {
    this.id = id;
    this.#vm = vm;
    this.#record = record;
    this.#fd = request(vmFd, "KVM_CREATE_VCPU", id, () => `vCPU ${id}`, REFUSED_VCPU);
    this.#index = record.newVcpu(this.#fd);
    try {
      const { buffer, address, runPageBytes } = record.place;
      const offset = record.runPageOffset(this.#index);
      mmap({ address: address + offset, length: runPageBytes, protection, flags: RUN_PAGE, fd: this.#fd });
      this.page = new RunPage(buffer, offset, runPageBytes);
      // Nor is what has it: posted to another thread a vCPU would lose its methods without a word.
      markAsUncloneable(this.page);
      if (record.dirtyRingBytes > 0) {
        const place = { fd: this.#fd, offset: DIRTY_RING_PAGE * PAGE, length: record.dirtyRingBytes };
        this.#ringMapping = new Mapping({ ...place, protection, flags: MapFlag.SHARED });
        record.entry(this.#index).ring = this.#ringMapping.address;
        this.dirtyRing = new DirtyRing(this.#ringMapping.buffer);
      }
    } catch (error) {
      closeAbandoned(record, this.#index);
      throw error;
    }
  }

  get kickHandle(): LinuxKickHandle {
    this.#open();
    this.#kickHandle ??= acceptKicks(this.#record, this.#index);
    return this.#kickHandle;
  }

  get coalescedRing(): CoalescedRing | undefined {
    if (this.#coalescedRing === undefined) {
      const ringPage = this.#vm.checkExtension(Capability.COALESCED_MMIO);
      const { buffer, byteOffset } = this.page.view;
      if (ringPage > 0) this.#coalescedRing = new CoalescedRing(buffer, byteOffset + ringPage * PAGE);
    }
    return this.#coalescedRing;
  }

  run(): ExitReason {
    const result = tryIoctl(this.#fd, Request.KVM_RUN, 0);
    if (result === 0) return this.page.exitReason as ExitReason;
    return this.#stopped(-result);
  }

  /** The cold side of {@link run}: a kick, or a refusal. */
  #stopped(errno: number): ExitReason {
    switch (errno) {
      case Errno.EINTR:
      case Errno.EAGAIN:
        // Only then does the caller read what it was kicked for.
        this.page.immediateExit = false;
        this.page.view.setUint32(Run.offset.exitReason, ExitReason.INTR, true);
        return ExitReason.INTR;
      case Errno.EFAULT:
        if (this.page.exitReason === ExitReason.MEMORY_FAULT) return ExitReason.MEMORY_FAULT;
        break;
      case Errno.EBADF:
        this.#open();
        break;
    }
    const cause = new SystemError(errno, "ioctl", "KVM_RUN");
    const text = errno === Errno.EFAULT ? "guest memory is not mapped, or not as the slot says" : cause.message;
    throw new KvmError("KVM_REQUEST_FAILED", `running vCPU ${this.id}: ${text}`, { cause });
  }

  completeExit(): void {
    this.page.immediateExit = true;
    this.run();
  }

  getRegs(): Regs {
    return get(this.#open(), "KVM_GET_REGS", Regs);
  }
  setRegs(regs: Regs): void {
    set(this.#open(), "KVM_SET_REGS", Regs, regs);
  }

  getSregs(): Sregs {
    return get(this.#open(), "KVM_GET_SREGS", Sregs);
  }
  setSregs(sregs: Sregs): void {
    set(this.#open(), "KVM_SET_SREGS", Sregs, sregs, () => `system registers of vCPU ${this.id}`, IMPOSSIBLE_STATE);
  }

  getSregs2(): Sregs2 {
    this.#require(Capability.SREGS2, "PAE pointers with the system registers");
    return get(this.#open(), "KVM_GET_SREGS2", Sregs2);
  }
  setSregs2(sregs: Sregs2): void {
    this.#require(Capability.SREGS2, "PAE pointers with the system registers");
    set(this.#open(), "KVM_SET_SREGS2", Sregs2, sregs, `system registers of vCPU ${this.id}`, IMPOSSIBLE_STATE);
  }

  getFpu(): Fpu {
    return get(this.#open(), "KVM_GET_FPU", Fpu);
  }
  setFpu(fpu: Fpu): void {
    set(this.#open(), "KVM_SET_FPU", Fpu, fpu);
  }

  getXsave(): Uint8Array {
    const size = this.#xsaveSize();
    const area = new Uint8Array(size);
    request(this.#open(), size > XSAVE_SIZE ? "KVM_GET_XSAVE2" : "KVM_GET_XSAVE", area);
    return area;
  }
  setXsave(area: Uint8Array): void {
    const size = this.#xsaveSize();
    if (area.byteLength < size) {
      throw new KvmError("KVM_INVALID", `an XSAVE area of ${area.byteLength} bytes; this vCPU's has ${size}`);
    }
    request(this.#open(), "KVM_SET_XSAVE", area, `XSAVE area of vCPU ${this.id}`, IMPOSSIBLE_STATE);
  }

  getXcrs(): Xcrs {
    return get(this.#open(), "KVM_GET_XCRS", Xcrs);
  }
  setXcrs(xcrs: Xcrs): void {
    set(this.#open(), "KVM_SET_XCRS", Xcrs, xcrs, `extended control registers of vCPU ${this.id}`, IMPOSSIBLE_STATE);
  }

  getDebugRegs(): DebugRegs {
    return get(this.#open(), "KVM_GET_DEBUGREGS", DebugRegs);
  }
  setDebugRegs(regs: DebugRegs): void {
    set(this.#open(), "KVM_SET_DEBUGREGS", DebugRegs, regs);
  }

  getLapic(): Uint8Array {
    const view = LapicState.allocate();
    request(this.#open(), "KVM_GET_LAPIC", view, `local APIC of vCPU ${this.id}`, NO_LAPIC);
    return LapicState.decode(view).regs;
  }
  setLapic(registers: Uint8Array): void {
    set(this.#open(), "KVM_SET_LAPIC", LapicState, { regs: registers }, `local APIC of vCPU ${this.id}`, NO_LAPIC);
  }

  getMpState(): MpState {
    return get(this.#open(), "KVM_GET_MP_STATE", MpStateRecord).mpState as MpState;
  }
  setMpState(state: MpState): void {
    set(this.#open(), "KVM_SET_MP_STATE", MpStateRecord, { mpState: state });
  }

  getEvents(): VcpuEvents {
    return get(this.#open(), "KVM_GET_VCPU_EVENTS", VcpuEvents);
  }
  setEvents(events: VcpuEvents): void {
    set(this.#open(), "KVM_SET_VCPU_EVENTS", VcpuEvents, events, `pending events of vCPU ${this.id}`, IMPOSSIBLE_STATE);
  }

  getNestedState(): Uint8Array | undefined {
    const size = this.#vm.checkExtension(Capability.NESTED_STATE);
    if (size === 0) return undefined;
    const state = new Uint8Array(Math.max(size, NestedStateHeader.size));
    new DataView(state.buffer).setUint32(NestedStateHeader.offset.size, state.length, true);
    request(this.#open(), "KVM_GET_NESTED_STATE", state);
    return state.subarray(0, new DataView(state.buffer).getUint32(NestedStateHeader.offset.size, true));
  }
  setNestedState(state: Uint8Array): void {
    this.#require(Capability.NESTED_STATE, "state of a nested guest");
    const view = new DataView(state.buffer, state.byteOffset, state.byteLength);
    if (
      state.byteLength < NestedStateHeader.size ||
      view.getUint32(NestedStateHeader.offset.size, true) > state.byteLength
    ) {
      throw new KvmError(
        "KVM_INVALID",
        `nested state of ${state.byteLength} bytes: it is shorter than its own header says`,
      );
    }
    request(this.#open(), "KVM_SET_NESTED_STATE", state, `nested state of vCPU ${this.id}`, IMPOSSIBLE_STATE);
  }

  getMsrs(indices: readonly number[]): MsrEntry[] {
    return readMsrs(this.#open(), indices);
  }
  setMsrs(entries: readonly MsrEntry[]): void {
    writeMsrs(this.#open(), entries);
  }

  getCpuid(): CpuidEntry[] {
    const view = growing(this.#open(), "KVM_GET_CPUID2", (count) => {
      const buffer = new DataView(new ArrayBuffer(CPUID_HEADER + count * CpuidEntry.size));
      buffer.setUint32(0, count, true);
      return buffer;
    });
    const entries = Array.from({ length: view.getUint32(0, true) }, (_, index) =>
      CpuidEntry.read(view, CPUID_HEADER + index * CpuidEntry.size),
    );
    // Older kernels (6.1 is one) leave the count as it was asked with: what they did not fill is zeros.
    return entries.slice(0, entries.findLastIndex((entry) => Object.values(entry).some((value) => value !== 0)) + 1);
  }
  setCpuid(entries: readonly CpuidEntry[]): void {
    const view = new DataView(new ArrayBuffer(CPUID_HEADER + entries.length * CpuidEntry.size));
    view.setUint32(0, entries.length, true);
    entries.forEach((entry, index) => {
      CpuidEntry.write(view, CPUID_HEADER + index * CpuidEntry.size, entry);
    });
    request(this.#open(), "KVM_SET_CPUID2", view, `CPUID of vCPU ${this.id}`, {
      [Errno.EINVAL]: "the kernel refuses these leaves, or the vCPU has run already",
      [Errno.E2BIG]: "more leaves than the kernel takes (256)",
    });
  }

  getTscKhz(): number {
    return request(this.#open(), "KVM_GET_TSC_KHZ", 0);
  }
  setTscKhz(khz: number): void {
    request(this.#open(), "KVM_SET_TSC_KHZ", khz, `TSC of vCPU ${this.id} at ${khz} kHz`, {
      [Errno.EINVAL]: "this host cannot scale the TSC (KVM_CAP_TSC_CONTROL), or not that far",
    });
  }

  setGuestDebug(debug: GuestDebug): void {
    set(this.#open(), "KVM_SET_GUEST_DEBUG", GuestDebug, debug);
  }

  injectNmi(): void {
    request(this.#open(), "KVM_NMI", 0);
  }

  injectInterrupt(vector: number): void {
    request(this.#open(), "KVM_INTERRUPT", new Uint32Array([vector]), `interrupt vector ${vector}`, {
      [Errno.EINVAL]: "a vector is 0 to 255",
      [Errno.ENXIO]: "the machine has an interrupt chip in the kernel, which injects for itself",
      [Errno.EEXIST]: "another interrupt waits to be injected",
    });
  }

  translate(linearAddress: bigint): Translation {
    const view = Translation.encode({ linearAddress, physicalAddress: 0, valid: 0, writeable: 0, usermode: 0 });
    request(this.#open(), "KVM_TRANSLATE", view);
    return Translation.decode(view);
  }

  notifyPaused(): boolean {
    const result = tryIoctl(this.#open(), Request.KVM_KVMCLOCK_CTRL, 0);
    // EINVAL: the guest uses no kvmclock.
    if (result === -Errno.EINVAL) return false;
    if (result < 0) throw new SystemError(-result, "ioctl", "KVM_KVMCLOCK_CTRL");
    return true;
  }

  enableCapability(capability: Capability, ...args: bigint[]): void {
    enableCapability(this.#open(), capability, args);
  }

  close(): void {
    if (this.#fd < 0) return;
    const entry = this.#record.entry(this.#index);
    entry.shut();
    this.#ringMapping?.close();
    unmapRunPage(this.#record, this.#index);
    close(this.#fd);
    this.#fd = -1;
    entry.closed();
  }

  [Symbol.dispose](): void {
    this.close();
  }

  #open(): number {
    if (this.#fd < 0) throw new KvmError("KVM_CLOSED", `vCPU ${this.id} is closed`);
    return this.#fd;
  }

  #xsaveSize(): number {
    return Math.max(XSAVE_SIZE, this.#vm.checkExtension(Capability.XSAVE2));
  }

  #require(capability: Capability, what: string): void {
    requireCapability((wanted) => this.#vm.checkExtension(wanted), capability, what);
  }
}

/**
 * Closes a vCPU whose thread ended without closing it, as `Worker.terminate` makes it: nobody runs it, and as long as it is
 * open the machine is too.
 */
export function closeAbandoned(record: SharedVmRecord, index: number): void {
  const entry = record.entry(index);
  entry.shut();
  if (entry.ring !== 0) munmap(entry.ring, record.dirtyRingBytes);
  unmapRunPage(record, index);
  close(entry.fd);
  entry.closed();
}

const protection = Protection.READ | Protection.WRITE;
const RUN_PAGE = MapFlag.SHARED | MapFlag.FIXED;
const NO_RUN_PAGE = MapFlag.PRIVATE | MapFlag.ANONYMOUS | MapFlag.NORESERVE | MapFlag.FIXED;

/**
 * Puts empty memory in the run page's place, which stays the buffer's: a view kept by mistake sees zeros. With V8's advice for
 * the buffer it becomes one map with it again; every map of a process makes the kernel's KVM_CREATE_VM longer.
 */
function unmapRunPage(record: SharedVmRecord, index: number): void {
  const { address, runPageBytes } = record.place;
  const page = address + record.runPageOffset(index);
  mmap({ address: page, length: runPageBytes, protection, flags: NO_RUN_PAGE });
  madvise(page, runPageBytes, Advice.DONTFORK);
}

const NO_LAPIC = { [Errno.EINVAL]: "this machine's local APICs are not in the hypervisor" };
const REFUSED_VCPU = {
  [Errno.EEXIST]:
    "the machine has, or had, one with this id: it is used by the thread that created it, and its id is not free " +
    "again before the machine is closed",
  [Errno.EINVAL]: "the id is above what this host allows (KVM_CAP_MAX_VCPU_ID)",
};
const IMPOSSIBLE_STATE = { [Errno.EINVAL]: "no processor of this model can be in this state" };
