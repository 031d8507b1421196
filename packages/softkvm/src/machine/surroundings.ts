/** What a vCPU's core meets around it: interrupt controller, clock, ports, CPUID, the other threads. */

import { Cr4, type ExitReason } from "@lodge/kvm";
import type { CompileThread } from "../compiler/compile-thread.ts";
import { State } from "../cpu/layout.ts";
import { LapicMsr } from "../interrupts/index.ts";
import type { LocalMmio } from "../mmu/mmio.ts";
import { Xcr0 } from "../system/features.ts";
import { Image } from "../system/fpu-image.ts";
import type { Microcode } from "../system/microcode.ts";
import type { ProcessorHooks } from "../system/processor.ts";
import { Attention } from "./board.ts";
import type { CodeStore } from "./code-store.ts";
import type { LocalBus } from "./local-bus.ts";
import { startProcessor, takeInit } from "./start-up.ts";
import type { SoftVcpu } from "./vcpu.ts";

/** Hooks of the processor that the core answers itself. */
type CoreHook = "halt" | "tripleFault" | "modeChanged" | "translationsFlushed" | "interruptsMayFlow" | "deliverQuickly";

/** What surrounds the core: the vCPU with its interrupt controller, clock and run page. */
export interface Surroundings {
  readonly hooks: Omit<ProcessorHooks, CoreHook>;
  readonly local: LocalMmio;
  /** Instructions that are done here instead of in system/. */
  readonly microcode: Readonly<Record<string, Microcode>>;
  /** Looks at what other threads ask for. Returns an exit for the monitor, or undefined. */
  attend(): ExitReason | undefined;
  /** Whether other threads ask for something: cheap. */
  readonly asked: boolean;
  /** Whether the monitor waits for the vCPU to stop. */
  readonly isKicked: boolean;
  /** Timers that are due. */
  expireTimers(): void;
  hasInterrupt(): boolean;
  acknowledgeInterrupt(): number;
  readonly pendingApicEvents: number;
  /** Handles INIT and SIPI. */
  takeApicEvents(): void;
  takeNmis(): number;
  /** The TSC without the guest's offset, as a float. */
  ticks(): number;
  /** Writes an MSR of the local APIC's registers or timer; false where the guest's MSRs say more, and nothing was done. */
  writeApicMsr(index: number, low: number, high: number): boolean;
  /** Sleeps until asked or until a timer is due. */
  sleep(): void;
  readonly hasLocalApic: boolean;
  readonly wantsInterruptWindow: boolean;
  /** The exit for an MSR access or hypercall that the monitor answers, after an instruction left with `GUEST_EXIT`. */
  requestedExit(): ExitReason | undefined;
  /** Whether an answer waits for its instruction to be executed again. */
  readonly replaying: boolean;
  codeWritten(): void;
  /** Asks the others to forget where writes may go; what is returned says whether they have. */
  askForWrites(): () => boolean;
  readonly isAlone: boolean;
  /** Where what is known of guests' code is kept, if it is. */
  readonly codeStore: CodeStore | undefined;
  /** The host's thread that compiles for this vCPU, if there is one. */
  readonly compileThread: CompileThread | undefined;
}

/** CPUID leaf 1: OSXSAVE, and the local APIC's bit and id. Leaf 7: OSPKE, which nothing here has. */
const OSXSAVE = 1 << 27;

/** A guest that boots waits for its devices, but not so long. */
const QUIET_MS = 100;
/** The host is told of quiet at most that often: each time is one turn of the run loop more. */
const IDLE_CALLS_NS = 2e9;

/** What XSAVE takes for the components that XCR0 enables (SDM vol. 1, 13.2). */
function xsaveBytes(vcpu: SoftVcpu): number {
  const xcr0 = vcpu.core?.state.get64(State.xcr0) ?? 0n;
  return xcr0 & Xcr0.AVX ? Image.size : Image.avx;
}

export function surround(vcpu: SoftVcpu, local: LocalBus): Surroundings {
  const { vm } = vcpu;
  const tpr = { value: 0 };
  const apicBase = { value: 0xfee00000n | 0x800n };
  /** When the host is told of quiet again. */
  let quietAgain = 0;
  return {
    local,

    hooks: {
      cpuid: (leaf, subleaf) => {
        const found = vcpu.cpuid.get(leaf, subleaf);
        if (leaf === 0xd && subleaf === 0 && found.eax !== 0) return { ...found, ebx: xsaveBytes(vcpu) };
        if (leaf !== 1) return found;
        const enabled = (vcpu.core?.state.get64(State.cr4) ?? 0n) & Cr4.OSXSAVE;
        return { ...found, ecx: enabled ? found.ecx | OSXSAVE : found.ecx & ~OSXSAVE };
      },
      readMsr: (index) => vcpu.msrs.readOther(index),
      writeMsr: (index, value) => vcpu.msrs.writeOther(index, value),
      readTsc: () => vcpu.msrs.readTsc(),
      writeTsc: (value) => vcpu.msrs.writeTsc(value),

      // Without a chip in the hypervisor the monitor keeps these.
      readTpr: () => (vm.interrupts.hasLocalApics ? vcpu.interrupts.cr8 : tpr.value),
      writeTpr: (priority) => {
        if (vm.interrupts.hasLocalApics) vcpu.interrupts.cr8 = priority;
        else tpr.value = priority;
      },
      readApicBase: () => {
        if (!vm.interrupts.hasLocalApics) return apicBase.value;
        const low = vcpu.interrupts.readMsr(LapicMsr.APIC_BASE);
        return BigInt(low >>> 0) | (BigInt(vcpu.interrupts.msrHigh >>> 0) << 32n);
      },
      writeApicBase: (value) => {
        if (vm.interrupts.hasLocalApics) {
          return vcpu.interrupts.writeMsr(LapicMsr.APIC_BASE, Number(value & 0xffffffffn), Number(value >> 32n), true);
        }
        apicBase.value = value;
        return true;
      },

      readPort: (port, size, count) => local.readPort(port, size, count),
      writePort: (port, size, value, count) => local.writePort(port, size, value, count),
      random: () => crypto.getRandomValues(new BigUint64Array(1))[0]!,
      hypercall: () => {
        vcpu.hypercalls.execute(vcpu.core.processor);
        return true;
      },
    },
    microcode: {
      rdmsr: (cpu) => vcpu.msrs.guestRead(cpu),
      wrmsr: (cpu) => vcpu.msrs.guestWrite(cpu),
    },

    attend: () => vcpu.attend(),
    get asked() {
      return vm.board.isAsked(vcpu.slot);
    },
    get isKicked() {
      return vm.board.isKicked(vcpu.slot);
    },
    expireTimers: () => {
      if (!vm.interrupts.hasLocalApics) return;
      const now = vm.clock.hostNs();
      if (now >= vcpu.interrupts.nextDeadline) vcpu.interrupts.expire(now);
    },
    hasInterrupt: () => vm.interrupts.hasLocalApics && vcpu.interrupts.hasInterrupt(),
    acknowledgeInterrupt: () => vcpu.interrupts.acknowledge(),
    get pendingApicEvents() {
      return vm.interrupts.hasLocalApics ? vcpu.interrupts.events : 0;
    },
    takeApicEvents: () => {
      if (vcpu.interrupts.takeInit()) takeInit(vcpu);
      const vector = vcpu.interrupts.takeSipi();
      if (vector >= 0) startProcessor(vcpu, vector);
    },
    takeNmis: () => vcpu.interrupts.takeNmis(),
    ticks: () => vm.clock.wholeTicks(),
    writeApicMsr: (index, low, high) => vcpu.msrs.writeApic(index, low, high),
    sleep: () => {
      const now = vm.clock.hostNs();
      const waitMs = Math.max(0, vcpu.interrupts.nextDeadline - now) / 1e6;
      const { idle } = vcpu;
      if (idle === undefined || waitMs < 2 * QUIET_MS || now < quietAgain) return vm.board.sleep(vcpu.slot, waitMs);
      quietAgain = now + IDLE_CALLS_NS;
      vm.board.sleep(vcpu.slot, QUIET_MS);
      if (!vm.board.isAsked(vcpu.slot)) idle();
    },
    get hasLocalApic() {
      return vm.interrupts.hasLocalApics;
    },
    get wantsInterruptWindow() {
      return !vm.interrupts.hasIoapic && vcpu.page.view.getUint8(0) !== 0;
    },
    requestedExit: () => vcpu.msrs.exitOfRequest() ?? vcpu.hypercalls.exitOfRequest(),
    get replaying() {
      return vcpu.msrs.replaying || vcpu.hypercalls.replaying;
    },
    codeWritten: () => vm.askOthers(vcpu.slot, Attention.CODE),
    askForWrites: () => vm.askOthersFor(vcpu.slot, Attention.WRITES),
    get codeStore() {
      return vcpu.codeStore;
    },
    compileThread: vcpu.compileThread,
    get isAlone() {
      return vm.record.openVcpus <= 1;
    },
  };
}
