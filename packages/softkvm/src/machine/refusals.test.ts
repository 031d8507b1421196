/** What cannot work is refused before anything runs, with an error that says why. */

import assert from "node:assert/strict";
import { test } from "node:test";
import { Cr4, type KvmError, type Vcpu, type Vm } from "@lodge/kvm";
import { cpuModel } from "./cpu-models.ts";
import { openSoft } from "./open.ts";

function refused(action: () => unknown, code: string, message: RegExp): void {
  assert.throws(action, (error: KvmError) => {
    assert.equal(error.code, code);
    assert.match(error.message, message);
    return true;
  });
}

function machine(memoryBytes: number): Vm {
  const soft = openSoft();
  return soft.createVm(soft.createMemory(memoryBytes));
}

function withVcpu(check: (vcpu: Vcpu) => void): void {
  using vm = machine(65536);
  using vcpu = vm.createVcpu(0);
  vcpu.setCpuid(cpuModel());
  check(vcpu);
}

test("an unknown CPU model names those that there are", () => {
  refused(() => cpuModel("pentium"), "KVM_INVALID", /no model "pentium"; it has: x86-64-v2, x86-64-v3/);
  refused(() => cpuModel(""), "KVM_INVALID", /no model ""/);
});

test("features are added and taken away by name; what is unknown or not there is refused", () => {
  const word = (description: string) => cpuModel(description).find((leaf) => leaf.function === 1)!.ecx;
  const aes = 1 << 25;
  assert.equal(word("x86-64-v2") & aes, aes);
  assert.equal(word("x86-64-v2,-aes") & aes, 0);
  assert.equal(word("x86-64-v2,-aes,+aes"), word("x86-64-v2"));
  refused(() => cpuModel("x86-64-v2,+telepathy"), "KVM_INVALID", /no feature "telepathy"/);
  refused(() => cpuModel("x86-64-v2,+avx512f"), "KVM_INVALID", /the software processor has no avx512f/);
  refused(() => cpuModel("x86-64-v2,aes"), "KVM_INVALID", /"aes" is neither \+FEATURE nor -FEATURE/);
});

test("leaves of another processor are refused with what they promise too much", () => {
  withVcpu((vcpu) => {
    const more = cpuModel().map((leaf) =>
      leaf.function === 7 ? { ...leaf, ebx: leaf.ebx | (1 << 16) | (1 << 11) } : leaf,
    );
    refused(
      () => vcpu.setCpuid(more),
      "KVM_REQUEST_FAILED",
      /CPUID of vCPU 0: the software processor has no rtm, no avx512f/,
    );
    assert.deepEqual(vcpu.getCpuid(), cpuModel());
  });
});

test("more memory than a software machine can have is refused", () => {
  for (const bytes of [3.875 * 2 ** 30, 5 * 2 ** 30]) {
    const message = /guest memory of (3.88|5) GiB: a software machine has at most 3.5 GiB/;
    refused(() => openSoft().createMemory(bytes), "KVM_INVALID", message);
  }
});

test("sixteen vCPUs have room behind the largest guest, and behind a small one", () => {
  for (const bytes of [2 ** 20, 3.5 * 2 ** 30]) {
    using vm = machine(bytes);
    using vcpus = new DisposableStack();
    for (let id = 0; id < 16; id++) vcpus.use(vm.createVcpu(id));
    refused(() => vm.createVcpu(16), "KVM_REQUEST_FAILED", /no room for another vCPU .* at most 3.5 GiB and 16 vCPUs/);
  }
});

test("a slot that overlaps another, or leaves the memory, is refused", () => {
  using vm = machine(2 ** 20);
  vm.setMemorySlot({ slot: 0, guestAddress: 0, sizeBytes: 0x80000, memoryOffset: 0 });
  const slot = { slot: 1, guestAddress: 0x7f000, sizeBytes: 0x2000, memoryOffset: 0x80000 };
  refused(() => vm.setMemorySlot(slot), "KVM_REQUEST_FAILED", /memory slot 1 .* overlaps another slot \(0\)/);
  const beyond = { ...slot, guestAddress: 0x100000, memoryOffset: 0xff000 };
  refused(() => vm.setMemorySlot(beyond), "KVM_INVALID", /memory slot 1 .* of a memory of 0x100000 bytes/);
});

test("state that no processor of the model can be in is refused, and changes nothing", () => {
  withVcpu((vcpu) => {
    const sregs = vcpu.getSregs();
    // CR4.PKE, and 5-level paging.
    for (const bit of [1n << 22n, 1n << 12n]) {
      refused(
        () => vcpu.setSregs({ ...sregs, cr4: Cr4.PAE | bit }),
        "KVM_REQUEST_FAILED",
        /no processor of this model/,
      );
    }
    const xcrs = vcpu.getXcrs();
    xcrs.xcrs[0]!.value = 0xe7n;
    refused(() => vcpu.setXcrs(xcrs), "KVM_REQUEST_FAILED", /XCRs: no processor of this model/);
    const area = vcpu.getXsave();
    // XSTATE_BV with AVX-512's registers.
    area[512] = 0xe3;
    refused(() => vcpu.setXsave(area), "KVM_REQUEST_FAILED", /XSAVE area: no processor of this model/);
    // IA32_BNDCFGS, of MPX.
    refused(() => vcpu.setMsrs([{ index: 0xd90, data: 0n }]), "KVM_MSR_REFUSED", /MSR 0xd90 does not take/);
    assert.deepEqual(vcpu.getSregs(), sregs);
  });
});
