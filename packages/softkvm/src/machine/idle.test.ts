/** That a halted vCPU costs nothing, and its host is told when it has been halted for a while. */

import assert from "node:assert/strict";
import { test } from "node:test";
import { ExitReason, type Vcpu, type Vm } from "@lodge/kvm";
import { openSoft } from "./open.ts";

/** A vCPU whose guest switches interrupts off and halts. */
function halting(vm: Vm): Vcpu {
  vm.createIrqchip();
  vm.setMemorySlot({ slot: 0, guestAddress: 0, sizeBytes: 2 ** 20, memoryOffset: 0 });
  // cli; hlt
  new Uint8Array(vm.memory.buffer).set([0xfa, 0xf4], 0x1000);
  const vcpu = vm.createVcpu(0);
  const sregs = vcpu.getSregs();
  vcpu.setSregs({ ...sregs, cs: { ...sregs.cs, base: 0n, selector: 0 } });
  vcpu.setRegs({ ...vcpu.getRegs(), rip: 0x1000n, rflags: 2n });
  return vcpu;
}

test("a halted vCPU sleeps until it is asked for something, and does not look by itself", (t) => {
  using soft = openSoft();
  using vm = soft.createVm(soft.createMemory(2 ** 20));
  using vcpu = halting(vm);
  const kicker = soft.attachKicker(vcpu.kickHandle);
  const timeouts: (number | undefined)[] = [];
  const { wait } = Atomics;
  t.mock.method(Atomics, "wait", (words: Int32Array, index: number, value: number, timeout?: number) => {
    timeouts.push(timeout);
    kicker.kick();
    return wait(words, index, value, timeout);
  });
  assert.equal(vcpu.run(), ExitReason.INTR);
  assert.deepEqual(timeouts, [Number.POSITIVE_INFINITY]);
});

test("a vCPU that stays halted tells its host, which may do in its thread what it has put off", () => {
  let idle = 0;
  let kick = () => {};
  using soft = openSoft({
    idle: () => {
      idle += 1;
      kick();
    },
  });
  using vm = soft.createVm(soft.createMemory(2 ** 20));
  const vcpu = halting(vm);
  const kicker = soft.attachKicker(vcpu.kickHandle);
  kick = () => kicker.kick();
  assert.equal(vcpu.run(), ExitReason.INTR);
  assert.equal(idle, 1);
  vcpu.close();
});
