/** The hypervisor over the kernel's /dev/kvm. */

import { close, Errno, OpenFlag, open, SystemError, tryIoctl } from "@lodge/linux";
import type { Capability } from "../capability.ts";
import { KvmError } from "../errors.ts";
import type { Hypervisor, Kicker, KickHandle, Notifier, NotifierHandle, VmHandle } from "../hypervisor.ts";
import { CPUID_HEADER, CpuidEntry, MSR_LIST_HEADER, type MsrEntry } from "../layout/registers.ts";
import type { GuestMemory } from "../memory.ts";
import type { Vm } from "../vm.ts";
import { LinuxKicker, type LinuxKickHandle } from "./kick.ts";
import { readMsrs } from "./msrs.ts";
import { LinuxNotifier, type LinuxNotifierHandle } from "./notifier.ts";
import { growing, request } from "./request.ts";
import { Request, type RequestName } from "./requests.ts";
import { LinuxVm, type LinuxVmHandle } from "./vm.ts";

/** The only version of the interface there has been since Linux 2.6.22. */
const API_VERSION = 12;

/** Opens /dev/kvm. Every thread that uses KVM opens it for itself. */
export function openKvm(path = "/dev/kvm"): LinuxHypervisor {
  return new LinuxHypervisor(openDevice(path), path);
}

export class LinuxHypervisor implements Hypervisor {
  readonly kind = "kvm";
  readonly apiVersion: number;
  #fd: number;

  constructor(fd: number, path: string) {
    this.#fd = fd;
    const version = tryIoctl(fd, Request.KVM_GET_API_VERSION, 0);
    if (version === API_VERSION) {
      this.apiVersion = version;
      return;
    }
    close(fd);
    throw version < 0
      ? new KvmError("KVM_ABSENT", `${path} is not KVM's device`, { cause: new SystemError(-version, "ioctl", path) })
      : new KvmError(
          "KVM_API_VERSION",
          `${path} speaks version ${version} of KVM's interface; Lodge needs ${API_VERSION}`,
        );
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

  createVm(memory: GuestMemory): Vm {
    return LinuxVm.create(this.#descriptor(), memory);
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

function openDevice(path: string): number {
  try {
    return open(path, OpenFlag.RDWR);
  } catch (error) {
    if (!(error instanceof SystemError)) throw error;
    switch (error.errno) {
      case Errno.ENOENT:
      case Errno.ENODEV:
      case Errno.ENXIO:
        throw new KvmError(
          "KVM_ABSENT",
          `no KVM on this host (${path}: ${error.code}): switch virtualization on in the firmware and load kvm_intel or ` +
            "kvm_amd, or use the software processor",
          { cause: error },
        );
      case Errno.EACCES:
      case Errno.EPERM:
        throw new KvmError(
          "KVM_PERMISSION",
          `no permission for ${path}: add your user to the group that owns it (usermod -aG kvm NAME, then log in anew)`,
          { cause: error },
        );
      default:
        throw error;
    }
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
