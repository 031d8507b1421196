/**
 * The processor itself: cases run in ring 3 on /dev/kvm, one after another without leaving the guest. Only an exception
 * leaves, to be noted; its handler then goes on as the frame that it finds here tells it.
 */

import { Worker } from "node:worker_threads";
import {
  Cr4,
  Efer,
  ExitReason,
  exitReasonName,
  longModeUser,
  Regs,
  Run,
  Selector,
  type Sregs,
  Sregs as SregsLayout,
  SyncRegs,
  SyncRegsFlag,
  type Vcpu,
} from "@lodge/kvm";
import { openKvm } from "@lodge/kvm/linux";
import { codeAddress, type FuzzCase, INT3, writeCode, writeData, writeRegisters } from "./case.ts";
import {
  CODE_BYTES,
  Control,
  FIRST_WRITABLE_SLOT,
  GDT_BYTES,
  linearOf,
  MEMORY_BYTES,
  physicalOf,
  Selectors,
  SHARED_PHYSICAL,
  SLOTS,
  SlotPages,
  Stub,
  System,
  XSAVE_BYTES,
} from "./layout.ts";
import { CR3, hasErrorCode, writeMachine } from "./machine-image.ts";
import type { Outcome } from "./outcome.ts";
import type { WatchdogData } from "./watchdog.ts";

/** Where the last case's stub goes on: nothing is mapped there. */
const STOP = 0x3bff0000n;

const PAGE = 0x1000;

const SYNC_RIP = Run.offset.sync + SyncRegs.offset.regs + Regs.offset.rip;
const SYNC_CR2 = Run.offset.sync + SyncRegs.offset.sregs + SregsLayout.offset.cr2;
/** A guest that a kick stopped after so long does not end by itself. */
const STUCK_MS = 100;
/** RF, which every fault sets in the frame's image, and TF, which would trap in the stub. */
const RF_TF = 0x10100;

export class Oracle implements Disposable {
  readonly memory: Uint8Array;
  readonly view: DataView;
  readonly #resources: DisposableStack;
  readonly #vcpu: Vcpu;
  readonly #sregs: Sregs;
  /** What lies in slots' code pages now. */
  readonly #written: { from: number; to: number }[] = Array.from({ length: SLOTS }, () => ({
    from: 0,
    to: CODE_BYTES,
  }));
  /** See {@link WatchdogData}. */
  readonly #beat = new Int32Array(new SharedArrayBuffer(8));

  constructor() {
    using undo = new DisposableStack();
    const kvm = undo.use(openKvm());
    const memory = kvm.createMemory(MEMORY_BYTES);
    this.memory = new Uint8Array(memory.buffer, 0, memory.sizeBytes);
    this.view = new DataView(memory.buffer, 0, memory.sizeBytes);
    writeMachine(this.memory);
    const vm = undo.use(kvm.createVm(memory));
    vm.setTssAddress(0xfffbd000);
    vm.setIdentityMapAddress(0xfffbc000);
    vm.setMemorySlot({ slot: 0, guestAddress: 0, sizeBytes: MEMORY_BYTES, memoryOffset: 0 });
    this.#vcpu = undo.use(vm.createVcpu(0));
    this.#vcpu.setCpuid(kvm.supportedCpuid());
    const sregs = longModeUser(this.#vcpu.getSregs(), CR3);
    sregs.cr4 |= Cr4.OSXSAVE | Cr4.FSGSBASE;
    sregs.efer |= Efer.NXE;
    sregs.gdt = { base: BigInt(System.gdt), limit: GDT_BYTES - 1 };
    sregs.idt = { base: BigInt(System.idt), limit: 32 * 16 - 1 };
    sregs.tr = { ...sregs.cs, base: BigInt(System.tss), limit: 0x67, selector: Selector.TSS };
    Object.assign(sregs.tr, { type: 11, s: 0, dpl: 0, g: 0, l: 0 });
    this.#sregs = sregs;
    this.#vcpu.setSregs(sregs);
    const xcrs = this.#vcpu.getXcrs();
    xcrs.nrXcrs = 1;
    xcrs.xcrs[0]!.value = 7n;
    this.#vcpu.setXcrs(xcrs);
    this.#vcpu.page.validRegs = SyncRegsFlag.REGS | SyncRegsFlag.SREGS;
    const watchdog: WatchdogData = { kick: this.#vcpu.kickHandle, beat: this.#beat };
    const thread = new Worker(new URL("./watchdog.ts", import.meta.url), { workerData: watchdog });
    thread.unref();
    undo.defer(() => {
      Atomics.store(this.#beat, 1, 1);
      Atomics.notify(this.#beat, 1);
    });
    this.#resources = undo.move();
  }

  [Symbol.dispose](): void {
    this.#resources.dispose();
  }

  /** Runs cases, each in its own slot. */
  run(cases: readonly FuzzCase[], outcomes: readonly Outcome[]): void {
    for (const [index, fuzzCase] of cases.entries()) {
      const next = cases[index + 1];
      this.#load(fuzzCase, next === undefined ? STOP : loader(next));
      outcomes[index]!.ending = "exit";
    }
    const first = cases[0]!;
    this.#enterAt(loader(first));
    let begun = 0;
    for (;;) {
      const beat = Atomics.add(this.#beat, 0, 1);
      const began = performance.now();
      const reason = this.#vcpu.run();
      Atomics.store(this.#beat, 0, beat + 2);
      if (reason === ExitReason.INTR && performance.now() - began < STUCK_MS) continue;
      const slot = this.view.getUint32(SHARED_PHYSICAL, true);
      while (cases[begun]!.slot !== slot) begun += 1;
      if (reason === ExitReason.HLT) {
        if (this.#fault(cases[begun]!, outcomes[begun]!)) break;
        continue;
      }
      // This host's KVM emulates what it does not run on the processor, and it does not know everything.
      const outcome = outcomes[begun]!;
      outcome.ending = "unable";
      outcome.reason = reason === ExitReason.INTR ? "does not end" : exitReasonName(reason);
      const after = cases[begun + 1];
      if (after === undefined) break;
      this.#enterAt(loader(after));
    }
    for (const [index, fuzzCase] of cases.entries()) this.#save(fuzzCase, outcomes[index]!);
  }

  /**
   * Clears the states that cases left in the slots' control pages: software keeps its own elsewhere, and a case whose
   * address leads to another slot would read something there that it does not.
   */
  forgetStates(): void {
    const { pages, physical } = SlotPages.control;
    for (let slot = 0; slot < SLOTS; slot++) {
      const start = physicalOf(slot, physical);
      this.memory.fill(0, start, start + pages * PAGE);
    }
  }

  #enterAt(rip: bigint): void {
    this.#vcpu.setSregs(this.#sregs);
    this.#vcpu.setRegs({ ...this.#vcpu.getRegs(), rip, rflags: 2n });
  }

  #load(fuzzCase: FuzzCase, next: bigint): void {
    const { slot } = fuzzCase;
    const { memory, view } = this;
    const control = physicalOf(slot);
    const code = physicalOf(slot, SlotPages.code.physical);
    const old = this.#written[slot]!;
    memory.fill(INT3, code + old.from, code + old.to);
    const now = writeCode(memory, code, fuzzCase.code);
    // A program that changes itself may have written anywhere.
    this.#written[slot] = slot < FIRST_WRITABLE_SLOT ? now : { from: 0, to: CODE_BYTES };
    writeData(memory, physicalOf(slot, SlotPages.data.physical), fuzzCase.data);
    writeRegisters(view, control, fuzzCase);
    memory.set(fuzzCase.xsave, control + Control.xsave);
    const entry = codeAddress(slot, fuzzCase.code[0]!.at);
    if (fuzzCase.bits === 64) view.setBigUint64(control + Control.entry, BigInt(entry), true);
    else {
      view.setUint32(control + Control.entry, entry, true);
      view.setUint16(control + Control.entry + 4, Selectors.code32, true);
      for (let index = 0; index < 5; index++) {
        view.setUint16(control + Control.selectors + index * 2, Selectors.data, true);
      }
    }
    view.setBigUint64(control + Control.next, next, true);
  }

  /** An exception's handler has halted. Returns true when it was the stop behind the last case. */
  #fault(fuzzCase: FuzzCase, outcome: Outcome): boolean {
    const { view } = this;
    const page = this.#vcpu.page.view;
    const vector = (page.getUint32(SYNC_RIP, true) - System.handlers) >> 4;
    const withError = hasErrorCode(vector);
    const frame = System.stackTop - 40;
    const rip = view.getBigUint64(frame, true);
    if (rip === STOP) return true;
    outcome.ending = "fault";
    outcome.vector = vector;
    outcome.error = withError ? view.getUint32(frame - 8, true) : 0;
    outcome.rip = rip;
    outcome.address = vector === 14 ? page.getBigUint64(SYNC_CR2, true) : 0n;
    view.setBigUint64(frame, BigInt(linearOf(fuzzCase.slot, SlotPages.stubs.linear + Stub.save)), true);
    view.setBigUint64(frame + 8, BigInt(Selectors.code64), true);
    view.setBigUint64(frame + 16, view.getBigUint64(frame + 16, true) & ~BigInt(RF_TF), true);
    view.setBigUint64(frame + 32, BigInt(Selectors.data), true);
    return false;
  }

  #save({ slot }: FuzzCase, outcome: Outcome): void {
    const { view } = this;
    const control = physicalOf(slot);
    outcome.exit = view.getUint32(control + Control.outExit, true);
    outcome.flags = view.getUint32(control + Control.outFlags, true);
    for (let word = 0; word < 32; word++) {
      outcome.gpr[word] = view.getUint32(control + Control.outGpr + word * 4, true);
    }
    outcome.xsave.set(this.memory.subarray(control + Control.outXsave, control + Control.outXsave + XSAVE_BYTES));
  }
}

function loader({ slot, bits }: FuzzCase): bigint {
  return BigInt(linearOf(slot, SlotPages.stubs.linear + (bits === 64 ? Stub.load64 : Stub.loadLegacy)));
}
