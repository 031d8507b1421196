/** What the kernel refuses, in the words that a caller reads. */

import assert from "node:assert/strict";
import { test } from "node:test";
import { Worker } from "node:worker_threads";
import { CODE, guest, noKvm } from "../../testing/guest.ts";
import { Capability } from "../capability.ts";
import { exitError, KvmError, type KvmErrorCode } from "../errors.ts";
import { ExitReason } from "../exit-reason.ts";
import { longMode } from "../modes.ts";
import { requireCapability } from "./request.ts";

function refused(call: () => unknown, code: KvmErrorCode, ...parts: RegExp[]): void {
  assert.throws(call, (error) => {
    assert.ok(error instanceof KvmError, String(error));
    assert.equal(error.code, code);
    for (const part of parts) assert.match(error.message, part);
    assert.ok(!error.message.includes("\n"));
    return true;
  });
}

const HLT = [0xf4];

test("a missing capability is named", () => {
  const none = () => 0;
  refused(
    () => requireCapability(none, Capability.DIRTY_LOG_RING, "dirty rings"),
    "KVM_CAPABILITY_MISSING",
    /^dirty rings: .*KVM_CAP_DIRTY_LOG_RING;/,
    /newer kernel/,
  );
  requireCapability(() => 1, Capability.DIRTY_LOG_RING, "dirty rings");
});

test("a capability that cannot be switched on is named", { skip: noKvm }, () => {
  using small = guest(HLT);
  refused(() => small.vm.enableCapability(Capability.HLT), "KVM_REQUEST_FAILED", /enabling KVM_CAP_HLT: this host/);
});

test("a refused MSR is named, when read and when written", { skip: noKvm }, () => {
  using small = guest(HLT);
  const tsc = 0x10;
  const none = 0x4b4e_4f4e;
  refused(
    () => small.vcpu.getMsrs([tsc, none, tsc]),
    "KVM_MSR_REFUSED",
    /MSR 0x4b4e4f4e does not exist/,
    /leave it out/,
  );
  const entries = [
    { index: tsc, data: 1n },
    { index: none, data: 0xabn },
  ];
  refused(() => small.vcpu.setMsrs(entries), "KVM_MSR_REFUSED", /MSR 0x4b4e4f4e does not take 0xab/, /leave it out/);
  refused(() => small.kvm.readFeatureMsrs([none]), "KVM_MSR_REFUSED", /0x4b4e4f4e/);
});

test("impossible system registers are refused before the guest runs", { skip: noKvm }, () => {
  using small = guest(HLT);
  const sregs = small.vcpu.getSregs();
  refused(() => small.vcpu.setSregs({ ...sregs, cr4: 1n << 63n }), "KVM_REQUEST_FAILED", /system registers of vCPU 0/);
});

test("a guest that runs into nothing is an internal error that says so", { skip: noKvm }, () => {
  using small = guest(HLT);
  small.vcpu.setRegs({ ...small.vcpu.getRegs(), rip: 0x8000_0000n });
  assert.equal(small.vcpu.run(), ExitReason.INTERNAL_ERROR);
  const error = exitError(small.vcpu.page);
  assert.equal(error.code, "KVM_INTERNAL_ERROR");
  assert.match(error.message, /^KVM gave up on the guest: .*emulate/);
});

test("a state that no processor takes is a failed entry that says what to check", { skip: noKvm }, (t) => {
  using small = guest(HLT);
  // One table each that maps the first 2 MiB onto itself; code that is both 64-bit and 32-bit (Intel SDM vol. 3, 26.3.1.2).
  const tables = new BigUint64Array(small.memory.buffer);
  tables[0x2000 / 8] = 0x3003n;
  tables[0x3000 / 8] = 0x4003n;
  tables[0x4000 / 8] = 0x83n;
  const sregs = longMode(small.vcpu.getSregs(), 0x2000n);
  small.vcpu.setSregs({ ...sregs, cs: { ...sregs.cs, db: 1, l: 1 } });
  small.vcpu.setRegs({ ...small.vcpu.getRegs(), rip: BigInt(CODE) });
  const reason = small.vcpu.run();
  if (reason !== ExitReason.FAIL_ENTRY) return t.skip("this host's KVM takes such a state");
  const error = exitError(small.vcpu.page);
  assert.equal(error.code, "KVM_FAIL_ENTRY");
  assert.match(error.message, /hardware reason 0x[0-9a-f]+, .*setSregs/);
});

test("a closed vCPU, machine or hypervisor says that it is closed", { skip: noKvm }, () => {
  using small = guest(HLT);
  small.vcpu.close();
  refused(() => small.vcpu.run(), "KVM_CLOSED", /vCPU 0 is closed/);
  refused(() => small.vcpu.getRegs(), "KVM_CLOSED", /vCPU 0 is closed/);
  refused(() => small.vcpu.notifyPaused(), "KVM_CLOSED", /vCPU 0 is closed/);
  const notifier = small.kvm.createNotifier();
  notifier.close();
  refused(() => notifier.signal(), "KVM_CLOSED", /notifier is closed/);
  const where = { bus: "pio", address: 0x10, length: 1 } as const;
  refused(() => small.vm.assignIoeventfd(notifier, where), "KVM_CLOSED", /notifier is closed/);
  small.vm.close();
  refused(() => small.vm.createVcpu(1), "KVM_CLOSED", /machine is closed/);
  small.kvm[Symbol.dispose]();
  refused(() => small.kvm.checkExtension(Capability.IRQCHIP), "KVM_CLOSED", /hypervisor is closed/);
});

test("a machine is not closed under its vCPUs", { skip: noKvm }, () => {
  using small = guest(HLT);
  refused(() => small.vm.close(), "KVM_IN_USE", /1 of the machine's vCPUs/, /close them first/);
});

test("handles of another hypervisor are refused", { skip: noKvm }, () => {
  using small = guest(HLT);
  const handle = { kind: "soft", memory: small.memory } as const;
  refused(() => small.kvm.attachVm(handle), "KVM_INVALID", /"soft" was given to "kvm"/);
});

test("nothing that belongs to a thread can be posted to another", { skip: noKvm }, () => {
  using small = guest(HLT);
  using notifier = small.kvm.createNotifier();
  const { port1 } = new MessageChannel();
  for (const value of [small.vcpu, small.vcpu.page, small.vm, small.kvm, notifier]) {
    assert.throws(() => port1.postMessage({ value }), { name: "DataCloneError" });
  }
  port1.postMessage([small.vm.handle, small.vcpu.kickHandle, notifier.handle]);
  port1.close();
});

test("another thread cannot make the vCPU that this one has", { skip: noKvm }, async () => {
  using small = guest(HLT);
  const worker = new Worker(new URL("../../testing/second-vcpu.ts", import.meta.url), { workerData: small.vm.handle });
  const { promise, resolve, reject } = Promise.withResolvers<{ code: string; message: string }>();
  worker.once("message", resolve).once("error", reject);
  const { code, message } = await promise;
  assert.equal(code, "KVM_REQUEST_FAILED");
  assert.match(message, /^vCPU 0: .*used by the thread that created it/);
});
