/** The hypervisor in software. */

import type {
  Capability,
  CpuidEntry,
  GuestMemory,
  Hypervisor,
  Kicker,
  KickHandle,
  MsrEntry,
  Notifier,
  NotifierHandle,
  Vcpu,
  Vm,
  VmHandle,
} from "@lodge/kvm";
import { KvmError } from "@lodge/kvm";
import { Board } from "./board.ts";
import { checkExtension } from "./capabilities.ts";
import { createSoftMemory, type SoftMemory } from "./memory.ts";
import { x8664v2 } from "./models.ts";
import { FEATURE_MSRS, STATE_MSRS } from "./msrs.ts";
import { SoftKicker, type SoftKickHandle, SoftNotifier, type SoftNotifierHandle } from "./notifier.ts";
import { SoftVm, type SoftVmHandle } from "./vm.ts";

/** Of a `SoftVm`. The processor is no part of this file's: threads that only make machines need not load it. */
export type VcpuMaker = (vm: Vm, id: number) => Vcpu;

export class SoftHypervisor implements Hypervisor {
  readonly kind = "soft";
  readonly #board = new Board();
  readonly #makeVcpu: VcpuMaker;

  constructor(makeVcpu: VcpuMaker) {
    this.#makeVcpu = makeVcpu;
  }

  checkExtension(capability: Capability): number {
    return checkExtension(capability);
  }
  supportedCpuid(): CpuidEntry[] {
    return x8664v2();
  }
  /** Everything here is emulated; there are no features beside those supported. */
  emulatedCpuid(): CpuidEntry[] {
    return [];
  }
  msrIndices(): number[] {
    return [...STATE_MSRS];
  }
  featureMsrIndices(): number[] {
    return [...FEATURE_MSRS.keys()];
  }
  readFeatureMsrs(indices: readonly number[]): MsrEntry[] {
    return indices.map((index) => {
      const data = FEATURE_MSRS.get(index);
      if (data !== undefined) return { index, data };
      throw new KvmError(
        "KVM_MSR_REFUSED",
        `MSR 0x${index.toString(16)} does not exist on this host or for this CPUID`,
      );
    });
  }

  createMemory(sizeBytes: number): SoftMemory {
    return createSoftMemory(sizeBytes);
  }
  createVm(memory: GuestMemory): Vm {
    return SoftVm.create(this.#board, ours<SoftMemory>(memory), this.#makeVcpu);
  }
  attachVm(handle: VmHandle): Vm {
    return SoftVm.attach(ours<SoftVmHandle>(handle), this.#makeVcpu);
  }
  createNotifier(): Notifier {
    return new SoftNotifier(this.#board);
  }
  attachNotifier(handle: NotifierHandle): Notifier {
    return new SoftNotifier(this.#board, ours<SoftNotifierHandle>(handle));
  }
  attachKicker(handle: KickHandle): Kicker {
    return new SoftKicker(ours<SoftKickHandle>(handle));
  }

  close(): void {}
  [Symbol.dispose](): void {}
}

/** Handles of other implementations are refused, whatever they hold. */
function ours<T extends { readonly kind: string }>(handle: { readonly kind: string }): T {
  if (handle.kind === "soft") return handle as T;
  throw new KvmError("KVM_INVALID", `a handle of the hypervisor "${handle.kind}" was given to "soft"`);
}
