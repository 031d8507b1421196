/** What devices look like on PCI, for drivers of virtio 1 and for those from before it. */

import assert from "node:assert/strict";
import { test } from "node:test";
import { BlkDevice, MappedRam, NetDevice, RngDevice, type VirtioDevice, VsockDevice } from "@lodge/devices";
import { openHypervisor } from "../accelerator.ts";
import { Bus } from "../bus/bus.ts";
import { ECAM, PCI_PORTS } from "../memory/address-map.ts";
import { PciBus } from "../pci/bus.ts";
import { Command, Config, MsiX } from "../pci/layout.ts";
import { placeBars } from "../pci/root.ts";
import { VirtioPort } from "./port.ts";

const nowhere = { set: () => {} };

const disk = {
  sizeBytes: 512,
  readOnly: false,
  read: async () => {},
  write: async () => {},
  flush: async () => {},
  discard: async () => {},
  writeZeroes: async () => {},
  close: async () => {},
};

async function bench(devices: VirtioDevice[], resources: AsyncDisposableStack) {
  const hypervisor = resources.use(await openHypervisor("soft"));
  const vm = resources.use(hypervisor.createVm(hypervisor.createMemory(16 << 20)));
  const ram = new MappedRam(new ArrayBuffer(0), []);
  const wires = { vm, ram, pin: nowhere, send: () => {}, failed: () => {} };
  const functions = devices.map((device, index) => {
    return resources.use(new VirtioPort(hypervisor, index + 1, device, wires)).function;
  });
  placeBars(functions);
  const ports = new Bus("ports");
  const memory = new Bus("memory");
  new PciBus(PciBus.create(), functions, { read: () => 0, write: () => {} }).connect(ports, memory);
  const configure = (slot: number, register: number, value: number) =>
    memory.write(ECAM.start + slot * 0x8000 + register, 2, value);
  return { functions, ports, configure };
}

test("devices that there were before virtio 1 are transitional, the others are not", async () => {
  await using resources = new AsyncDisposableStack();
  const port = { takesOffloads: false, givesOffloads: false, transmit: () => {}, connect: () => {} };
  const devices = [
    new NetDevice({ port, mac: "52:54:00:12:34:56" }),
    new BlkDevice({ disk }),
    new VsockDevice({ cid: 3, connect: () => undefined }),
  ];
  const { functions } = await bench(devices, resources);
  const seen = functions.map(({ space }) => [
    space.read(Config.DEVICE, 2),
    space.read(Config.REVISION, 1),
    space.read(Config.SUBSYSTEM, 2),
    space.read(Config.BAR, 4),
  ]);
  assert.deepEqual(seen, [
    [0x1000, 0, 1, PCI_PORTS.start | 1],
    [0x1001, 0, 2, (PCI_PORTS.start + 0x80) | 1],
    [0x1053, 1, 0x40, 0],
  ]);
});

test("the old registers are where the first BAR is, and tell MSI-X's vectors from the configuration", async () => {
  await using resources = new AsyncDisposableStack();
  const { functions, ports, configure } = await bench([new RngDevice(), new BlkDevice({ disk })], resources);
  const blk = functions[1]!;
  const at = blk.space.read(Config.BAR, 4) & ~3;
  assert.equal(ports.read(at + 20, 4), 0xffffffff, "not before ports are enabled");
  configure(2, Config.COMMAND, Command.IO);
  // Its configuration begins with its size in sectors.
  assert.deepEqual([ports.read(at + 20, 4), ports.read(at + 24, 4)], [1, 0]);
  configure(2, blk.space.msixAt + MsiX.CONTROL, MsiX.ENABLE);
  assert.deepEqual([ports.read(at + 20, 4), ports.read(at + 24, 4)], [0xffffffff, 1]);
});
