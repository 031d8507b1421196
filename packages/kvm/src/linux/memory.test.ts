import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import { CODE, noKvm } from "../../testing/guest.ts";
import { ExitReason } from "../exit-reason.ts";
import { flatProtectedMode } from "../modes.ts";
import { openKvm } from "./hypervisor.ts";

test("a guest runs in more memory than WebAssembly has", { skip: noKvm }, () => {
  using kvm = openKvm();
  const sizeBytes = 20 * 2 ** 30;
  const memory = kvm.createMemory(sizeBytes);
  const bytes = new Uint8Array(memory.buffer, 0, sizeBytes);
  // The second slot shows the last page at 1 MiB: mov 0x100fff, %al; out %al, $0x10
  bytes.set([0xa0, 0xff, 0x0f, 0x10, 0x00, 0xe6, 0x10], CODE);
  bytes[sizeBytes - 1] = 0x42;
  using vm = kvm.createVm(memory);
  vm.setMemorySlot({ slot: 0, guestAddress: 0, sizeBytes: 0x100000, memoryOffset: 0 });
  vm.setMemorySlot({ slot: 1, guestAddress: 0x100000, sizeBytes: 4096, memoryOffset: sizeBytes - 4096 });
  using vcpu = vm.createVcpu(0);
  vcpu.setSregs(flatProtectedMode(vcpu.getSregs()));
  vcpu.setRegs({ ...vcpu.getRegs(), rip: BigInt(CODE), rflags: 2n });
  let reason = vcpu.run();
  while (reason === ExitReason.INTR) reason = vcpu.run();
  assert.equal(reason, ExitReason.IO);
  assert.equal(vcpu.page.io.value(), 0x42);
  assert.equal(bytes[sizeBytes - 1], 0x42, "what is behind the guest's memory is not in it");
});

test("a machine that was closed leaves its memory one map", { skip: noKvm }, () => {
  using kvm = openKvm();
  const memory = kvm.createMemory(2 ** 20);
  const { address, buffer } = memory.record;
  /** Every map makes the next KVM_CREATE_VM longer. */
  const maps = () =>
    readFileSync("/proc/self/maps", "utf8")
      .split("\n")
      .map((line) => line.split(/[- ]/, 2).map((hex) => Number.parseInt(hex, 16)))
      .filter(([start, end]) => start! < address + buffer.byteLength && end! > address).length;
  // Neighbours that are alike are the same map.
  assert.equal(maps(), 1);
  {
    using vm = kvm.createVm(memory);
    vm.setMemorySlot({ slot: 0, guestAddress: 0, sizeBytes: 2 ** 20, memoryOffset: 0 });
    using _vcpu = vm.createVcpu(0);
    assert.ok(maps() > 1, "the run page");
  }
  assert.equal(maps(), 1);
});
