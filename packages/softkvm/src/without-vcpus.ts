/**
 * The software hypervisor for threads that make machines and run none of their vCPUs: all but the processor itself, which is
 * most of this package and takes longest to load.
 */

import { KvmError } from "@lodge/kvm";
import { SoftHypervisor } from "./machine/hypervisor.ts";

export type { SoftHypervisor };

export function openSoftWithoutVcpus(): SoftHypervisor {
  return new SoftHypervisor(() => {
    throw new KvmError(
      "KVM_INVALID",
      "this thread opened the software hypervisor without its vCPUs: openSoft has them",
    );
  });
}
