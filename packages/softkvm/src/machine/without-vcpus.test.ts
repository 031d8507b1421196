import assert from "node:assert/strict";
import { test } from "node:test";
import { openSoftWithoutVcpus } from "../without-vcpus.ts";
import { openSoft } from "./open.ts";

test("a machine made without vCPUs gets them from a thread that has them", () => {
  using maker = openSoftWithoutVcpus();
  const vm = maker.createVm(maker.createMemory(2 ** 20));
  vm.setMemorySlot({ slot: 0, guestAddress: 0, sizeBytes: 2 ** 20, memoryOffset: 0 });
  assert.throws(() => vm.createVcpu(0), { code: "KVM_INVALID", message: /without its vCPUs/ });
  using runner = openSoft();
  using attached = runner.attachVm(vm.handle);
  const vcpu = attached.createVcpu(0);
  assert.equal(vcpu.getSregs().cs.selector, 0xf000);
  vcpu.close();
  vm.close();
});
