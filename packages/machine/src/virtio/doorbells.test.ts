/** Where doorbells hang as a guest moves, hides and shows the BAR: told by which addresses the hypervisor has given away. */

import assert from "node:assert/strict";
import { test } from "node:test";
import { MappedRam, RngDevice } from "@lodge/devices";
import type { Notifier, Vm } from "@lodge/kvm";
import { accelerators } from "../../testing/accelerators.ts";
import { openHypervisor } from "../accelerator.ts";
import { Bus } from "../bus/bus.ts";
import { ECAM, PCI_WINDOW } from "../memory/address-map.ts";
import { PciBus } from "../pci/bus.ts";
import { Command, Config } from "../pci/layout.ts";
import { Doorbells } from "./doorbells.ts";
import { VirtioFunction } from "./function.ts";
import { VirtioPort } from "./port.ts";

/** The registers' BAR, and where in it the doorbells are. */
const REGISTERS_BAR = Config.BAR + 8;
const NOTIFY = 0x3000;
const nowhere = { set: () => {} };

for (const { kind, skip } of await accelerators()) {
  test(`${kind}: doorbells follow their BAR, whichever vCPU moves it`, { skip }, async () => {
    await using resources = new AsyncDisposableStack();
    const hypervisor = resources.use(await openHypervisor(kind));
    const memory = hypervisor.createMemory(16 << 20);
    const vm = resources.use(hypervisor.createVm(memory));
    const wires = { vm, ram: new MappedRam(memory.buffer, []), pin: nowhere, send: () => {}, failed: () => {} };
    const port = resources.use(new VirtioPort(hypervisor, 1, new RngDevice(), wires));
    const probe = resources.use(hypervisor.createNotifier());
    const taken = (bar: number) => isTaken(vm, probe, bar + NOTIFY);

    const shared = PciBus.create();
    const threads = [0, 1].map(() => {
      const doorbells = resources.use(new Doorbells(hypervisor, vm, port.handle.doorbells));
      const one = new VirtioFunction(port.handle, { pin: nowhere, send: () => {}, doorbells, wake: () => {} });
      const memoryBus = new Bus("memory");
      new PciBus(shared, [one], { read: () => 0, write: () => {} }).connect(new Bus("ports"), memoryBus);
      return (register: number, value: number, size = 4) =>
        memoryBus.write(ECAM.start + 0x8000 + register, size, value);
    });
    const [first, second] = threads as [(typeof threads)[0], (typeof threads)[0]];

    const here = PCI_WINDOW.start;
    const there = PCI_WINDOW.start + 0x10_0000;
    first(REGISTERS_BAR, here);
    assert.equal(taken(here), false, "not while the function answers nowhere");
    first(Config.COMMAND, Command.MEMORY, 2);
    assert.equal(taken(here), true);
    second(REGISTERS_BAR, there);
    assert.deepEqual([taken(here), taken(there)], [false, true]);
    // Sizing: all ones, and back.
    first(REGISTERS_BAR, 0xffffffff);
    assert.equal(taken(there), false);
    second(REGISTERS_BAR, there);
    assert.equal(taken(there), true);
    first(Config.COMMAND, 0, 2);
    assert.equal(taken(there), false);
    second(Config.COMMAND, Command.MEMORY, 2);
    assert.equal(taken(there), true);

    // Where somebody else's doorbell hangs the device goes without, and leaves that one alone.
    vm.assignIoeventfd(probe, { bus: "mmio", address: here + NOTIFY, length: 0 });
    first(REGISTERS_BAR, here);
    first(REGISTERS_BAR, there);
    vm.deassignIoeventfd(probe, { bus: "mmio", address: here + NOTIFY, length: 0 });
    assert.equal(taken(there), true);

    await port[Symbol.asyncDispose]();
    assert.equal(taken(there), false);
  });
}

function isTaken(vm: Vm, probe: Notifier, address: number): boolean {
  const where = { bus: "mmio", address, length: 0 } as const;
  try {
    vm.assignIoeventfd(probe, where);
  } catch {
    return true;
  }
  vm.deassignIoeventfd(probe, where);
  return false;
}
