/** A machine of 64 processors: the first one wakes the others by INIT and SIPI, as Linux does. */

import assert from "node:assert/strict";
import { test } from "node:test";
import { CODE, MEMORY_BYTES, noKvm } from "../../testing/guest.ts";
import { Capability } from "../capability.ts";
import { exitError } from "../errors.ts";
import { ExitReason } from "../exit-reason.ts";
import { MpState } from "../layout/events.ts";
import { flatProtectedMode } from "../modes.ts";
import type { Vcpu } from "../vcpu.ts";
import { openKvm } from "./hypervisor.ts";

const COUNT = 64;
const PORT = 0x10;
/** Where the others begin: SIPI's vector is the page's number (Intel SDM vol. 3, 9.4.4). */
const TRAMPOLINE = 0x5000;

/** movl $value, (address) */
const store = (address: number, value: number) => [0xc7, 0x05, ...u32(address), ...u32(value)];
const u32 = (value: number) => [value & 255, (value >> 8) & 255, (value >> 16) & 255, value >>> 24];
/** Registers of the local APIC, and commands to all but the sender (Intel SDM vol. 3, 11.4.1 and 11.6.1). */
const SPURIOUS = 0xfee000f0;
const ICR = 0xfee00300;
const FIRST = [
  ...store(SPURIOUS, 0x1ff),
  ...store(ICR, 0xc4500),
  ...store(ICR, 0xc4600 | (TRAMPOLINE >> 12)),
  ...[0xe6, PORT], // out %al, $PORT
];
/** mov %cs, %ax; out %ax, $PORT */
const OTHERS = [0x8c, 0xc8, 0xe7, PORT];

function expectOut(vcpu: Vcpu): number {
  // EAGAIN is how a vCPU comes back that was started meanwhile.
  let reason = vcpu.run();
  while (reason === ExitReason.INTR) reason = vcpu.run();
  if (reason !== ExitReason.IO) throw exitError(vcpu.page);
  assert.equal(vcpu.page.io.port, PORT);
  return vcpu.page.io.value();
}

test(`${COUNT} vCPUs are created and brought up`, { skip: noKvm }, () => {
  using undo = new DisposableStack();
  const kvm = undo.use(openKvm());
  assert.ok(kvm.checkExtension(Capability.MAX_VCPUS) >= COUNT);
  const memory = kvm.createMemory(MEMORY_BYTES);
  const bytes = new Uint8Array(memory.buffer);
  bytes.set(FIRST, CODE);
  bytes.set(OTHERS, TRAMPOLINE);
  const vm = undo.use(kvm.createVm(memory));
  vm.setTssAddress(0xfffbd000);
  vm.setIdentityMapAddress(0xfffbc000);
  vm.setMemorySlot({ slot: 0, guestAddress: 0, sizeBytes: MEMORY_BYTES, memoryOffset: 0 });
  vm.createIrqchip();
  const [first, ...others] = Array.from({ length: COUNT }, (_, id) => undo.use(vm.createVcpu(id)));
  first!.setSregs(flatProtectedMode(first!.getSregs()));
  first!.setRegs({ ...first!.getRegs(), rip: BigInt(CODE), rflags: 2n });
  for (const other of others) assert.equal(other.getMpState(), MpState.UNINITIALIZED, `vCPU ${other.id}`);

  expectOut(first!);
  for (const other of others) {
    assert.equal(expectOut(other), TRAMPOLINE >> 4, `vCPU ${other.id}: its code segment`);
    assert.equal(other.getMpState(), MpState.RUNNABLE, `vCPU ${other.id}`);
    assert.equal(other.getLapic()[0x23], other.id, "its APIC's id");
  }
});
