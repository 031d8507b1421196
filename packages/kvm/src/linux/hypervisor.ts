/** The hypervisor over the kernel's /dev/kvm. */

import { markAsUncloneable } from "node:worker_threads";
import { close } from "@lodge/linux";
import type { Capability } from "../capability.ts";
import { KvmError } from "../errors.ts";
import type { Hypervisor, Kicker, KickHandle, Notifier, NotifierHandle, VmHandle } from "../hypervisor.ts";
import { CPUID_HEADER, CpuidEntry, MSR_LIST_HEADER, type MsrEntry } from "../layout/registers.ts";
import type { GuestMemory } from "../memory.ts";
import type { Vm } from "../vm.ts";
import { API_VERSION, openDevice } from "./device.ts";
import { LinuxKicker, type LinuxKickHandle } from "./kick.ts";
import { createLinuxMemory, type LinuxMemory } from "./memory.ts";
import { readMsrs } from "./msrs.ts";
import { LinuxNotifier, type LinuxNotifierHandle } from "./notifier.ts";
import { growing, request } from "./request.ts";
import type { RequestName } from "./requests.ts";
import { LinuxVm, type LinuxVmHandle } from "./vm.ts";

/** Opens /dev/kvm. Every thread that uses KVM opens it for itself. */
export function openKvm(path = "/dev/kvm"): LinuxHypervisor {
  return new LinuxHypervisor(openDevice(path));
}

export class LinuxHypervisor implements Hypervisor {
  readonly kind = "kvm";
  readonly apiVersion = API_VERSION;
  #fd: number;

  constructor(fd: number) {
    this.#fd = fd;
    markAsUncloneable(this);
  }

  checkExtension(capability: Capability): number {
    return request(this.#descriptor(), "KVM_CHECK_EXTENSION", capability);
  }

  supportedCpuid(): CpuidEntry[] {
    return cpuidList(this.#descriptor(), "KVM_GET_SUPPORTED_CPUID");
  }

  emulatedCpuid(): CpuidEntry[] {
    return cpuidList(this.#descriptor(), "KVM_GET_EMULATED_CPUID");
  }

  msrIndices(): number[] {
    return msrList(this.#descriptor(), "KVM_GET_MSR_INDEX_LIST");
  }

  featureMsrIndices(): number[] {
    return msrList(this.#descriptor(), "KVM_GET_MSR_FEATURE_INDEX_LIST");
  }

  readFeatureMsrs(indices: readonly number[]): MsrEntry[] {
    return readMsrs(this.#descriptor(), indices);
  }

  createMemory(sizeBytes: number): LinuxMemory {
    return createLinuxMemory(sizeBytes, request(this.#descriptor(), "KVM_GET_VCPU_MMAP_SIZE", 0));
  }

  createVm(memory: GuestMemory): Vm {
    return LinuxVm.create(this.#descriptor(), ours<LinuxMemory>(memory));
  }

  attachVm(handle: VmHandle): Vm {
    return LinuxVm.attach(ours<LinuxVmHandle>(handle));
  }

  createNotifier(): Notifier {
    return new LinuxNotifier();
  }

  attachNotifier(handle: NotifierHandle): Notifier {
    return new LinuxNotifier(ours<LinuxNotifierHandle>(handle));
  }

  attachKicker(handle: KickHandle): Kicker {
    return new LinuxKicker(ours<LinuxKickHandle>(handle));
  }

  close(): void {
    if (this.#fd < 0) return;
    close(this.#fd);
    this.#fd = -1;
  }

  [Symbol.dispose](): void {
    this.close();
  }

  #descriptor(): number {
    if (this.#fd < 0) throw new KvmError("KVM_CLOSED", "this hypervisor is closed");
    return this.#fd;
  }
}

/** Handles of other implementations are refused, whatever they hold. */
function ours<T extends { readonly kind: string }>(handle: { readonly kind: string }): T {
  if (handle.kind === "kvm") return handle as T;
  throw new KvmError("KVM_INVALID", `a handle of the hypervisor "${handle.kind}" was given to "kvm"`);
}

function cpuidList(fd: number, name: RequestName): CpuidEntry[] {
  const view = growing(fd, name, (count) => {
    const buffer = new DataView(new ArrayBuffer(CPUID_HEADER + count * CpuidEntry.size));
    buffer.setUint32(0, count, true);
    return buffer;
  });
  return Array.from({ length: view.getUint32(0, true) }, (_, index) =>
    CpuidEntry.read(view, CPUID_HEADER + index * CpuidEntry.size),
  );
}

function msrList(fd: number, name: RequestName): number[] {
  const view = growing(fd, name, (count) => {
    const buffer = new DataView(new ArrayBuffer(MSR_LIST_HEADER + count * 4));
    buffer.setUint32(0, count, true);
    return buffer;
  });
  return Array.from({ length: view.getUint32(0, true) }, (_, index) =>
    view.getUint32(MSR_LIST_HEADER + index * 4, true),
  );
}
