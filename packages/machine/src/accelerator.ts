/** The implementations of the KVM interface, by name. Every thread opens its own. */

import type { Hypervisor, HypervisorKind } from "@lodge/kvm";

export async function openHypervisor(kind: HypervisorKind): Promise<Hypervisor> {
  // Each brings much with it that the other has no use for.
  if (kind === "kvm") return (await import("@lodge/kvm/linux")).openKvm();
  return (await import("@lodge/softkvm")).openSoft();
}
