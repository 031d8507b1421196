/** The software hypervisor, for those who run vCPUs. */

import type { CompileThread } from "../compiler/compile-thread.ts";
import type { CodeStore } from "./code-store.ts";
import { SoftHypervisor } from "./hypervisor.ts";
import { SoftVcpu } from "./vcpu.ts";
import type { SoftVm } from "./vm.ts";

/** What the host may lend. */
export interface SoftServices {
  /** Translations of guests' code are kept there for later guests. */
  readonly codeStore?: CodeStore | undefined;
  /** Called in its thread when a vCPU has been halted for a while (machine/surroundings.ts): the time for what the host has put off. */
  readonly idle?: (() => void) | undefined;
  /** A thread that compiles for the next vCPU of this one (compiler/beside.ts), if there is one. */
  readonly compileThread?: (() => CompileThread | undefined) | undefined;
}

/** Every thread that uses the software hypervisor opens it for itself. */
export function openSoft(services: SoftServices = {}): SoftHypervisor {
  return new SoftHypervisor((vm, id) => new SoftVcpu(vm as SoftVm, id, services));
}
