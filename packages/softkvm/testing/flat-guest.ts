/** A vCPU in flat 32-bit code without paging, for tests of what becomes of its code. */

import assert from "node:assert/strict";
import { ExitReason, flatProtectedMode } from "@lodge/kvm";
import { openSoft } from "../src/machine/open.ts";
import type { SoftVcpu } from "../src/machine/vcpu.ts";

const MEMORY_BYTES = 2 ** 20;

export interface FlatGuest extends Disposable {
  readonly vcpu: SoftVcpu;
  /** Sets EIP, and ECX to so many turns. */
  goTo(rip: number, turns: number): void;
  /** Runs from an address to HLT, and returns EAX. */
  run(rip: number, turns: number): bigint;
  write(at: number, code: readonly number[]): void;
  readonly regionBytes: number;
}

export function flatGuest(services: Parameters<typeof openSoft>[0] = {}): FlatGuest {
  const soft = openSoft(services);
  const memory = soft.createMemory(MEMORY_BYTES);
  const vm = soft.createVm(memory);
  vm.setMemorySlot({ slot: 0, guestAddress: 0, sizeBytes: MEMORY_BYTES, memoryOffset: 0 });
  const bytes = new Uint8Array(memory.buffer);
  const vcpu = vm.createVcpu(0) as SoftVcpu;
  vcpu.setCpuid(soft.supportedCpuid());
  vcpu.setSregs(flatProtectedMode(vcpu.getSregs()));
  const goTo = (rip: number, turns: number) => {
    vcpu.setRegs({ ...vcpu.getRegs(), rip: BigInt(rip), rcx: BigInt(turns) });
  };
  return {
    vcpu,
    goTo,
    run: (rip, turns) => {
      goTo(rip, turns);
      assert.equal(vcpu.run(), ExitReason.HLT);
      return vcpu.getRegs().rax;
    },
    write: (at, code) => bytes.set(code, at),
    get regionBytes() {
      return vcpu.core.kept.regionBytes;
    },
    [Symbol.dispose]: () => {
      vcpu.close();
      vm.close();
    },
  };
}
