/** What the host's KVM is and can do. */

import { Capability, capabilityName, INTERPRETED_NS, KvmError, type KvmErrorCode, measureRingZero } from "@lodge/kvm";
import { type LinuxHypervisor, memoryEncryption, openKvm } from "@lodge/kvm/linux";
import { type HostFiles, text } from "./host-files.ts";

export type KvmInfo = AbsentKvm | PresentKvm;

export interface AbsentKvm {
  present: false;
  code: KvmErrorCode;
  /** One line that says what to do. */
  reason: string;
}

export interface PresentKvm {
  present: true;
  device: string;
  apiVersion: number;
  /** The kernel's part for this processor, such as kvm_intel; undefined where it does not show. */
  module: string | undefined;
  /** How guest kernels run, measured; undefined with `speedError` when that failed. */
  guestKernels: "executed" | "interpreted" | undefined;
  /** Nanoseconds that an instruction of a guest kernel takes. */
  ringZeroNs: number | undefined;
  speedError: string | undefined;
  /** A guest can run KVM itself. */
  nested: boolean;
  /** Kinds of encrypted machines. */
  memoryEncryption: string[];
  /** Every capability that answers, by its name without KVM_CAP_, and those of the known ones that do not: 0. */
  capabilities: Record<string, number>;
}

/** Numbers above what any kernel has so far. */
const LAST_CAPABILITY = 300;

export function kvm(files: HostFiles, device = "/dev/kvm"): KvmInfo {
  try {
    using hypervisor = openKvm(device);
    return describe(hypervisor, files, device);
  } catch (error) {
    if (!(error instanceof KvmError)) throw error;
    return { present: false, code: error.code, reason: error.message };
  }
}

function describe(hypervisor: LinuxHypervisor, files: HostFiles, device: string): PresentKvm {
  using vm = hypervisor.createVm(hypervisor.createMemory(65536));
  const module = ["kvm_intel", "kvm_amd", "kvm_pvm"].find((name) => files.exists(`/sys/module/${name}`));
  return {
    present: true,
    device,
    apiVersion: hypervisor.apiVersion,
    module,
    ...speed(hypervisor),
    nested: /^[Y1]$/.test(text(files, `/sys/module/${module}/parameters/nested`) ?? ""),
    memoryEncryption: memoryEncryption(vm),
    capabilities: capabilities((number) => vm.checkExtension(number as Capability)),
  };
}

function speed(hypervisor: LinuxHypervisor): Pick<PresentKvm, "guestKernels" | "ringZeroNs" | "speedError"> {
  try {
    const ns = measureRingZero(hypervisor);
    return {
      guestKernels: ns > INTERPRETED_NS ? "interpreted" : "executed",
      ringZeroNs: Math.round(ns * 10) / 10,
      speedError: undefined,
    };
  } catch (error) {
    return { guestKernels: undefined, ringZeroNs: undefined, speedError: (error as Error).message };
  }
}

/** What each capability answers; `check` asks the machine, whose answers count (KVM_CAP_CHECK_EXTENSION_VM). */
export function capabilities(check: (capability: number) => number): Record<string, number> {
  const known = new Set<number>(Object.values(Capability));
  return Object.fromEntries(
    Array.from({ length: LAST_CAPABILITY + 1 }, (_, number) => [number, check(number)] as const)
      .filter(([number, value]) => value !== 0 || known.has(number))
      .map(([number, value]) => [capabilityName(number).slice("KVM_CAP_".length), value]),
  );
}
