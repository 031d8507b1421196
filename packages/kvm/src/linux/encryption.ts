/** Encrypted guest memory, as far as the host can be asked: what kinds of machines there are (api.rst 4.110, 8.42). */

import { tryIoctl } from "@lodge/linux";
import { Capability } from "../capability.ts";
import type { Vm } from "../vm.ts";
import { Request } from "./requests.ts";
import type { LinuxVmHandle } from "./vm.ts";

/** KVM_X86_*_VM: bit n of KVM_CAP_VM_TYPES is type n. */
const TYPES = ["default", "software-protected", "SEV", "SEV-ES", "SEV-SNP", "TDX"];

/** The kinds of encrypted machines that the host of this machine of ours can make; empty for none. */
export function memoryEncryption(vm: Vm): string[] {
  const types = vm.checkExtension(Capability.VM_TYPES);
  if (types > 0) return TYPES.filter((_, type) => type >= 2 && types & (1 << type));
  // Kernels before 6.9 have no list; without an argument the request tells whether there is SEV.
  return tryIoctl((vm.handle as LinuxVmHandle).fd, Request.KVM_MEMORY_ENCRYPT_OP, 0) === 0 ? ["SEV"] : [];
}
