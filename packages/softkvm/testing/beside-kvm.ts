/** One machine twice: on /dev/kvm and in software. The same state goes into both; what comes out is compared. */

import { existsSync } from "node:fs";
import { Worker } from "node:worker_threads";
import { ExitReason, type Regs, type Sregs, type Vcpu, type VcpuEvents, type Vm } from "@lodge/kvm";
import { openKvm } from "@lodge/kvm/linux";
import { Msr, writeMsr } from "../src/system/msr.ts";
import { getDebugRegs, getRegs, setDebugRegs, setRegs } from "../src/system/regs.ts";
import { getSregs, setSregs } from "../src/system/sregs.ts";
import { getEvents } from "../src/system/vcpu-events.ts";
import { type SoftProcessor, softProcessor } from "./soft-processor.ts";

/** Why there is no KVM to compare with, or false. For a test's `skip`. */
export const noKvm: string | false = existsSync("/dev/kvm") ? false : "this host has no /dev/kvm";

export interface State {
  regs: Regs;
  sregs: Sregs;
}

export interface Ending extends State {
  end: string;
  shadow: number;
  dr6: bigint;
}

export class BesideKvm implements Disposable {
  readonly soft: SoftProcessor;
  readonly memory: Uint8Array;
  readonly vcpu: Vcpu;
  /** As KVM makes a vCPU. */
  readonly initial: State;
  readonly #vm: Vm;
  /** See watchdog.ts. */
  readonly #runs = new Int32Array(new SharedArrayBuffer(8));
  readonly #resources: DisposableStack;

  constructor(memoryBytes: number) {
    using undo = new DisposableStack();
    const kvm = undo.use(openKvm());
    const memory = kvm.createMemory(memoryBytes);
    this.memory = new Uint8Array(memory.buffer, 0, memory.sizeBytes);
    this.#vm = undo.use(kvm.createVm(memory));
    this.#showMemory();
    this.vcpu = undo.use(this.#vm.createVcpu(0));
    // Without RTM, whose bit of DR6 would be another.
    const leaves = kvm.supportedCpuid();
    this.vcpu.setCpuid(leaves.map((leaf) => (leaf.function === 7 ? { ...leaf, ebx: leaf.ebx & ~(1 << 11) } : leaf)));
    this.initial = { regs: this.vcpu.getRegs(), sregs: this.vcpu.getSregs() };
    this.soft = softProcessor(memoryBytes);
    const workerData = { kickHandle: this.vcpu.kickHandle, runs: this.#runs.buffer };
    const watchdog = new Worker(new URL("./watchdog.ts", import.meta.url), { workerData });
    watchdog.unref();
    undo.defer(() => {
      Atomics.store(this.#runs, 1, 1);
      Atomics.notify(this.#runs, 1);
    });
    this.#resources = undo.move();
  }

  /** Puts memory and state into both. */
  load(image: Uint8Array, state: State): void {
    // What the last run asked for is answered somehow.
    this.vcpu.completeExit();
    this.memory.set(image);
    this.soft.bytes.set(image);
    this.vcpu.setEvents({ ...this.vcpu.getEvents(), ...QUIET });
    this.vcpu.setSregs(state.sregs);
    this.vcpu.setRegs(state.regs);
    const debugRegs = { db: [0n, 0n, 0n, 0n], dr6: 0xffff0ff0n, dr7: 0x400n, flags: 0n };
    this.vcpu.setDebugRegs(debugRegs);
    this.vcpu.setMsrs(INITIAL_MSRS);
    const { cpu } = this.soft;
    for (const { index, data } of INITIAL_MSRS) writeMsr(cpu, index, data);
    cpu.events.clear();
    cpu.state.set32(0x29c, 0);
    setSregs(cpu, state.sregs);
    setRegs(cpu, state.regs);
    setDebugRegs(cpu, debugRegs);
  }

  /**
   * Makes KVM forget what it made of the guest's page tables: where it shadows them it sees the guest's writes, not
   * those of {@link load}.
   */
  forgetPageTables(): void {
    this.#vm.deleteMemorySlot(0);
    this.#showMemory();
  }

  #showMemory(): void {
    this.#vm.setMemorySlot({ slot: 0, guestAddress: 0, sizeBytes: this.memory.length, memoryOffset: 0 });
  }

  runKvm(): Ending {
    Atomics.add(this.#runs, 0, 1);
    const reason = this.vcpu.run();
    Atomics.add(this.#runs, 0, 1);
    const end =
      reason === ExitReason.HLT
        ? "halt"
        : reason === ExitReason.SHUTDOWN
          ? "shutdown"
          : reason === ExitReason.INTERNAL_ERROR
            ? "internal-error"
            : `exit ${reason}`;
    return {
      end,
      regs: this.vcpu.getRegs(),
      sregs: this.vcpu.getSregs(),
      shadow: this.vcpu.getEvents().interrupt.shadow,
      dr6: this.vcpu.getDebugRegs().dr6,
    };
  }

  runSoft(limit?: number): Ending {
    const { cpu } = this.soft;
    const end = this.soft.run(limit);
    return {
      end,
      regs: getRegs(cpu),
      sregs: getSregs(cpu),
      shadow: getEvents(cpu).interrupt.shadow,
      dr6: getDebugRegs(cpu).dr6,
    };
  }

  [Symbol.dispose](): void {
    this.#resources.dispose();
  }
}

/** What the guest may have written that is no part of the system registers. */
const INITIAL_MSRS = [
  ...[Msr.SYSENTER_CS, Msr.STAR, Msr.LSTAR, Msr.CSTAR, Msr.SFMASK, Msr.KERNEL_GS_BASE, Msr.TSC_AUX].map((index) => ({
    index,
    data: 0n,
  })),
  { index: Msr.PAT, data: 0x0007040600070406n },
];

const QUIET: Partial<VcpuEvents> = {
  exception: { injected: 0, nr: 0, hasErrorCode: 0, pending: 0, errorCode: 0 },
  interrupt: { injected: 0, nr: 0, soft: 0, shadow: 0 },
  nmi: { injected: 0, pending: 0, masked: 0 },
  flags: 0x2 | 0x4,
};

/** The differences of two endings and memories as lines: "rip: kvm 0x10, soft 0x20". */
export function differences(kvm: Ending, soft: Ending, memory: Uint8Array, softMemory: Uint8Array): string[] {
  const found: string[] = [];
  compare("", kvm, soft, found);
  for (let at = 0; at < memory.length && found.length < 40; at++) {
    if (memory[at] !== softMemory[at]) {
      found.push(`memory 0x${at.toString(16)}: kvm ${hex(memory[at])}, soft ${hex(softMemory[at])}`);
    }
  }
  return found;
}

function compare(path: string, kvm: unknown, soft: unknown, found: string[]): void {
  if (typeof kvm === "object" && kvm !== null) {
    for (const [key, value] of Object.entries(kvm)) {
      compare(path === "" ? key : `${path}.${key}`, value, (soft as Record<string, unknown>)[key], found);
    }
  } else if (kvm !== soft) found.push(`${path}: kvm ${hex(kvm)}, soft ${hex(soft)}`);
}

function hex(value: unknown): string {
  return typeof value === "number" || typeof value === "bigint" ? `0x${value.toString(16)}` : String(value);
}
