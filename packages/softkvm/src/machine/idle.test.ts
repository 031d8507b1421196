/** That the host is told when a vCPU has been halted for a while. */

import assert from "node:assert/strict";
import { test } from "node:test";
import { ExitReason } from "@lodge/kvm";
import { openSoft } from "./open.ts";

test("a vCPU that stays halted tells its host, which may do in its thread what it has put off", () => {
  let idle = 0;
  let kick = () => {};
  using soft = openSoft({
    idle: () => {
      idle += 1;
      kick();
    },
  });
  const memory = soft.createMemory(2 ** 20);
  using vm = soft.createVm(memory);
  vm.createIrqchip();
  vm.setMemorySlot({ slot: 0, guestAddress: 0, sizeBytes: 2 ** 20, memoryOffset: 0 });
  // cli; hlt
  new Uint8Array(memory.buffer).set([0xfa, 0xf4], 0x1000);
  const vcpu = vm.createVcpu(0);
  const sregs = vcpu.getSregs();
  vcpu.setSregs({ ...sregs, cs: { ...sregs.cs, base: 0n, selector: 0 } });
  vcpu.setRegs({ ...vcpu.getRegs(), rip: 0x1000n, rflags: 2n });
  const kicker = soft.attachKicker(vcpu.kickHandle);
  kick = () => kicker.kick();
  assert.equal(vcpu.run(), ExitReason.INTR);
  assert.equal(idle, 1);
  vcpu.close();
});
