/** Who may use what, and until when: the interface's own rules, and the words of refusals. */

import { Capability, ExitReason } from "../../src/index.ts";
import type { Group } from "../case.ts";
import { equal, ok, refused } from "../check.ts";
import { protected32, real } from "../guest.ts";
import { DATA } from "../layout.ts";

const halt = real`hlt`;

export const lifetime: Group = {
  name: "lifetime",
  cases: [
    {
      name: "a machine is not closed while a vCPU is open, in whichever thread",
      guest: halt,
      async run(t) {
        const m = t.machine({ vcpus: 0 });
        const vcpu = await t.thread(m, { id: 0 });
        refused(() => m.vm.close(), "KVM_IN_USE", "1 of the machine's vCPUs are open");
        equal(await vcpu.run(), { reason: ExitReason.HLT }, "the vCPU is none the worse");
      },
    },
    {
      name: "a closed vCPU refuses everything; closing it again is nothing",
      guest: halt,
      run(t) {
        const m = t.machine({ vcpus: 0 });
        const vcpu = m.vm.createVcpu(0);
        vcpu.close();
        vcpu.close();
        refused(() => vcpu.run(), "KVM_CLOSED", "vCPU 0 is closed");
        refused(() => vcpu.getRegs(), "KVM_CLOSED", "vCPU 0 is closed");
        refused(() => vcpu.injectNmi(), "KVM_CLOSED", "vCPU 0 is closed");
      },
    },
    {
      name: "a closed machine refuses everything; closing it again is nothing",
      run(t) {
        const vm = t.hypervisor.createVm(t.hypervisor.createMemory(65536));
        vm.close();
        vm.close();
        const slot = { slot: 0, guestAddress: 0, sizeBytes: 65536, memoryOffset: 0 };
        refused(() => vm.setMemorySlot(slot), "KVM_CLOSED", "this machine is closed");
        refused(() => vm.createVcpu(0), "KVM_CLOSED", "this machine is closed");
        refused(() => vm.checkExtension(Capability.IRQCHIP), "KVM_CLOSED", "this machine is closed");
      },
    },
    {
      name: "closing an attached machine ends only that use",
      guest: halt,
      run(t) {
        const m = t.machine();
        const attached = t.hypervisor.attachVm(m.vm.handle);
        attached.close();
        m.expect(ExitReason.HLT);
      },
    },
    {
      name: "an attached machine is the same machine",
      guest: protected32`
        mov al, [${DATA}]
        out 0x10, al
        mov al, [0x400000]
        out 0x10, al`,
      run(t) {
        const m = t.machine();
        const attached = t.use(t.hypervisor.attachVm(m.vm.handle));
        ok(attached.memory.buffer === m.memory.buffer, "it has the same memory");
        new Uint8Array(attached.memory.buffer)[DATA] = 0x42;
        m.expectOut(0x10, 0x42);
        attached.setMemorySlot({ slot: 1, guestAddress: 0x400000, sizeBytes: 0x1000, memoryOffset: DATA });
        m.expectOut(0x10, 0x42);
        m.vm.deleteMemorySlot(1);
      },
    },
    {
      name: "a vCPU id is there once, and within the host's limit",
      guest: halt,
      run(t) {
        const m = t.machine();
        refused(() => m.vm.createVcpu(0), "KVM_REQUEST_FAILED", "one with this id");
        const limit = m.vm.checkExtension(Capability.MAX_VCPU_ID);
        refused(() => m.vm.createVcpu(limit), "KVM_REQUEST_FAILED", "above what this host allows");
      },
    },
    {
      name: "a vCPU of another thread cannot be had: not by its id, and not by posting it",
      guest: halt,
      async run(t) {
        const m = t.machine();
        const outcome = await t.thread(m, { id: 0 }).catch((error: { code: string; message: string }) => error);
        ok("code" in outcome && outcome.code === "KVM_REQUEST_FAILED", "creating it in another thread is refused");
        ok(outcome.message.includes("used by the thread that created it"), `the words: ${outcome.message}`);
        let name = "";
        try {
          structuredClone(m.vcpu);
        } catch (error) {
          name = (error as Error).name;
        }
        equal(name, "DataCloneError", "what posting it throws");
      },
    },
    {
      name: "chips come before the first vCPU, and once",
      guest: halt,
      run(t) {
        const m = t.machine();
        refused(() => m.vm.createIrqchip(), "KVM_REQUEST_FAILED", "create them before the first vCPU");
        const chips = t.machine({ irqchip: "kernel", vcpus: 0 });
        refused(() => chips.vm.createIrqchip(), "KVM_REQUEST_FAILED", "has them already");
      },
    },
    {
      name: "what needs a chip says so where there is none",
      guest: halt,
      run(t) {
        const m = t.machine();
        const words = "the machine has no interrupt chip";
        refused(() => m.vm.setIrqLine(3, true), "KVM_REQUEST_FAILED", words);
        refused(() => m.vm.getIoapic(), "KVM_REQUEST_FAILED", words);
        refused(() => m.vcpu.getLapic(), "KVM_REQUEST_FAILED", "local APICs are not in the hypervisor");
      },
    },
    {
      name: "an unknown capability is 0, and cannot be switched on",
      guest: halt,
      run(t) {
        const m = t.machine();
        const unknown = 9999 as Capability;
        equal(t.hypervisor.checkExtension(unknown), 0, "the answer");
        refused(() => m.vm.enableCapability(unknown), "KVM_REQUEST_FAILED", "KVM_CAP_9999");
      },
    },
    {
      name: "guest memory is whole 64 KiB pages, and no more than there can be",
      run(t) {
        for (const size of [0, -65536, 1000, 65536 * 1.5, Number.NaN, 2 ** 40]) {
          refused(() => t.hypervisor.createMemory(size), "KVM_INVALID", `guest memory of ${size} bytes`);
        }
      },
    },
  ],
};
