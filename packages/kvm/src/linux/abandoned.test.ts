/** vCPUs whose threads ended without closing them. */

import assert from "node:assert/strict";
import { once } from "node:events";
import { readdirSync, readFileSync, readlinkSync } from "node:fs";
import { test } from "node:test";
import { Worker } from "node:worker_threads";
import { MEMORY_BYTES, noKvm } from "../../testing/guest.ts";
import { Capability } from "../capability.ts";
import type { KickHandle } from "../hypervisor.ts";
import { openKvm } from "./hypervisor.ts";

/** What this process holds of vCPUs: descriptors and mappings. */
function held(): { descriptors: number; mappings: number } {
  const links = readdirSync("/proc/self/fd").map((fd) => {
    try {
      return readlinkSync(`/proc/self/fd/${fd}`);
    } catch {
      return "the folder's own";
    }
  });
  const maps = readFileSync("/proc/self/maps", "utf8").split("\n");
  const ofVcpu = (name: string) => name.includes("kvm-vcpu");
  return { descriptors: links.filter(ofVcpu).length, mappings: maps.filter(ofVcpu).length };
}

for (const rings of [false, true]) {
  const name = rings ? "a vCPU with a dirty ring" : "a vCPU";
  test(`${name} of a terminated thread is closed with its machine`, { skip: noKvm }, async (t) => {
    using kvm = openKvm();
    const vm = kvm.createVm(kvm.createMemory(MEMORY_BYTES));
    vm.setMemorySlot({ slot: 0, guestAddress: 0, sizeBytes: MEMORY_BYTES, memoryOffset: 0 });
    if (rings) {
      if (vm.checkExtension(Capability.DIRTY_LOG_RING) + vm.checkExtension(Capability.DIRTY_LOG_RING_ACQ_REL) === 0) {
        vm.close();
        return t.skip("this host has no dirty rings");
      }
      vm.enableDirtyRing(65536);
    }
    const worker = new Worker(new URL("../../testing/abandoned-vcpu.ts", import.meta.url), { workerData: vm.handle });
    const [{ kickHandle }]: [{ kickHandle: KickHandle }] = (await once(worker, "message")) as never;
    const kicker = kvm.attachKicker(kickHandle);

    assert.equal(kicker.kick(), true);
    assert.throws(() => vm.close(), { code: "KVM_IN_USE" }, "while its thread is there");
    assert.deepEqual(held(), { descriptors: 1, mappings: rings ? 2 : 1 });

    await worker.terminate();
    vm.close();
    assert.deepEqual(held(), { descriptors: 0, mappings: 0 });
    assert.equal(kicker.kick(), false);
    assert.throws(() => vm.createVcpu(1), { code: "KVM_CLOSED" });
  });
}
