/** The implementations of the KVM interface, by name. Every thread opens its own. */

import type { Hypervisor, HypervisorKind } from "@lodge/kvm";
import type { CompileThread } from "@lodge/softkvm";

/** What only who runs vCPUs needs of the software. */
export interface VcpuServices {
  /** The folder where it keeps what it made of guests' code. */
  readonly codeCache: string | undefined;
  /** Called when a vCPU of this thread has been idle for a while. */
  readonly idle: () => void;
  /** What compiles for the first vCPU of this thread, beside it. */
  readonly compileThread: CompileThread | undefined;
}

export async function openHypervisor(kind: HypervisorKind, services?: VcpuServices): Promise<Hypervisor> {
  // Each brings much with it that the other has no use for.
  if (kind === "kvm") return (await import("@lodge/kvm/linux")).openKvm();
  if (services === undefined) return (await import("@lodge/softkvm/without-vcpus")).openSoftWithoutVcpus();
  const { openSoft } = await import("@lodge/softkvm");
  const { heedHints } = await import("./vcpu/hints.ts");
  const { codeCache, idle } = services;
  let free = services.compileThread;
  const compileThread = () => {
    const taken = free;
    free = undefined;
    return taken;
  };
  const codeStore =
    codeCache === undefined ? {} : { codeStore: new (await import("./vcpu/code-files.ts")).CodeFiles(codeCache) };
  heedHints();
  return openSoft({ idle, compileThread, ...codeStore });
}
