/** The machine of machine.c in TypeScript. */

import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";
import {
  ExitReason,
  exitError,
  flatProtectedMode,
  type GuestMemory,
  type Hypervisor,
  type Vcpu,
  type Vm,
} from "@lodge/kvm";
import { openKvm } from "@lodge/kvm/linux";

const MEMORY = 512 * 2 ** 20;
const CODE = 0x1000;
const WARM_UP = 2000;

setFlagsFromString("--expose-gc");
const collectGarbage: () => void = runInNewContext("gc");

/** A machine with one vCPU and 512 MiB that is about to run `code`. Whatever fails ends the program, as in C. */
export class SmallMachine implements Disposable {
  readonly memory: GuestMemory;
  readonly vcpu: Vcpu;
  readonly #kvm: Hypervisor;
  readonly #vm: Vm;

  constructor(code: Uint8Array) {
    this.#kvm = openKvm();
    this.memory = this.#kvm.createMemory(MEMORY);
    new Uint8Array(this.memory.buffer).set(code, CODE);
    this.#vm = this.#kvm.createVm(this.memory);
    this.#vm.setMemorySlot({ slot: 0, guestAddress: 0, sizeBytes: MEMORY, memoryOffset: 0 });
    this.vcpu = this.#vm.createVcpu(0);
    this.vcpu.setSregs(flatProtectedMode(this.vcpu.getSregs()));
    this.vcpu.setRegs({ ...this.vcpu.getRegs(), rip: BigInt(CODE), rflags: 2n });
  }

  [Symbol.dispose](): void {
    this.vcpu[Symbol.dispose]();
    this.#vm[Symbol.dispose]();
    this.#kvm[Symbol.dispose]();
  }
}

/** One instruction and no more. */
export const HLT = new Uint8Array([0xf4]);
/** 1: out %al,$0x10; jmp 1b */
const PORT_WRITES = new Uint8Array([0xe6, 0x10, 0xeb, 0xfc]);

/** Nanoseconds an exit: a guest that writes to a port for ever. */
export function exits(count: number): number {
  using machine = new SmallMachine(PORT_WRITES);
  // A monitor's vCPU can be kicked.
  void machine.vcpu.kickHandle;
  portWrites(machine.vcpu, WARM_UP);
  const start = performance.now();
  portWrites(machine.vcpu, count);
  return ((performance.now() - start) * 1e6) / count;
}

/** Looks at each exit as a monitor must. */
function portWrites(vcpu: Vcpu, count: number): number {
  const { page } = vcpu;
  let sum = 0;
  for (let index = 0; index < count; index++) {
    runUntil(vcpu, ExitReason.IO);
    if (page.io.isOut && page.io.port === 0x10) sum += page.io.value();
  }
  return sum;
}

function runUntil(vcpu: Vcpu, wanted: ExitReason): void {
  let reason = vcpu.run();
  // A signal of Node's own, such as a child's end.
  while (reason === ExitReason.INTR) reason = vcpu.run();
  if (reason !== wanted) throw exitError(vcpu.page);
}

/** Nanoseconds from nothing to the first instruction run, for each of `count` machines. */
export function creations(count: number): number[] {
  // The C program unmaps each guest's memory outside of the time that counts; here the collector does, in a thread of its own
  // that holds the process's maps meanwhile. A second collection begins when that is over.
  collectGarbage();
  collectGarbage();
  return Array.from({ length: count }, () => {
    const start = performance.now();
    using machine = new SmallMachine(HLT);
    runUntil(machine.vcpu, ExitReason.HLT);
    return (performance.now() - start) * 1e6;
  });
}
