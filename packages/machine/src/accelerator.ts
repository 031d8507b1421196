/** The implementations of the KVM interface, by name. Every thread opens its own. */

import type { Hypervisor, HypervisorKind } from "@lodge/kvm";

/** `codeCache`: the folder where the software keeps what it made of guests' code; only who runs vCPUs needs it. */
export async function openHypervisor(kind: HypervisorKind, codeCache?: string): Promise<Hypervisor> {
  // Each brings much with it that the other has no use for.
  if (kind === "kvm") return (await import("@lodge/kvm/linux")).openKvm();
  const { openSoft } = await import("@lodge/softkvm");
  if (codeCache === undefined) return openSoft();
  const { CodeFiles } = await import("./vcpu/code-files.ts");
  return openSoft({ codeStore: new CodeFiles(codeCache) });
}
