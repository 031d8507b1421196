/** The smallest guests: a machine with 64 KiB of memory, one vCPU, and some bytes of code. */

import { existsSync } from "node:fs";
import { flatProtectedMode, type GuestMemory, type Hypervisor, type Vcpu, type Vm } from "../src/index.ts";
import { openKvm } from "../src/linux/index.ts";

/** Why there is no KVM to test here, or false. For a test's `skip`. */
export const noKvm: string | false = existsSync("/dev/kvm") ? false : "this host has no /dev/kvm";

/** Where a guest's code begins. */
export const CODE = 0x1000;
export const MEMORY_BYTES = 65536;

export interface Guest extends Disposable {
  kvm: Hypervisor;
  memory: GuestMemory;
  vm: Vm;
  vcpu: Vcpu;
}

/** A guest that is about to run `code` in 32-bit protected mode, ring 0. */
export function guest(code: readonly number[]): Guest {
  using undo = new DisposableStack();
  const kvm = undo.use(openKvm());
  const memory = kvm.createMemory(MEMORY_BYTES);
  new Uint8Array(memory.buffer).set(code, CODE);
  const vm = undo.use(kvm.createVm(memory));
  vm.setMemorySlot({ slot: 0, guestAddress: 0, sizeBytes: MEMORY_BYTES, memoryOffset: 0 });
  const vcpu = undo.use(vm.createVcpu(0));
  vcpu.setSregs(flatProtectedMode(vcpu.getSregs()));
  vcpu.setRegs({ ...vcpu.getRegs(), rip: BigInt(CODE), rflags: 2n });
  const resources = undo.move();
  return { kvm, memory, vm, vcpu, [Symbol.dispose]: () => resources.dispose() };
}
