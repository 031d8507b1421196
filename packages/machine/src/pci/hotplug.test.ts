/** Slots that are filled and emptied, as ACPI's methods go about it. */

import assert from "node:assert/strict";
import { test } from "node:test";
import { Bus } from "../bus/bus.ts";
import { ECAM } from "../memory/address-map.ts";
import { PciBus, type PciFunction } from "./bus.ts";
import { ConfigSpace } from "./config-space.ts";
import { HotplugRegister, PciHotplug } from "./hotplug.ts";
import { Command, Config } from "./layout.ts";

test("functions come and go: slots that are empty answer nothing, those that are filled what was sent for them", () => {
  const [ports, memory] = [new Bus("ports"), new Bus("memory")];
  const make = (slot: number, device: number): PciFunction => {
    const identity = { vendor: 1, device, revision: 0, classCode: 0, subsystemVendor: 0, subsystem: 0 };
    const bars = [{ kind: "memory", sizeBytes: 4096 }] as const;
    const layout = { identity, bars, interruptPin: false, capabilities: [] };
    const space = new ConfigSpace(ConfigSpace.create(), layout, true);
    return { slot, space, bars: [{ read: () => device, write: () => {} }] };
  };
  const shared = PciBus.create();
  const sent: PciFunction[] = [];
  const bus = new PciBus(shared, [make(1, 11)], { read: () => 0, write: () => {} }, () => {
    for (const one of sent.splice(0)) bus.put(one.slot, one);
  });
  bus.connect(ports, memory);
  const at = (slot: number, register: number) => ECAM.start + slot * 0x8000 + register;
  const place = (slot: number, address: number) => {
    memory.write(at(slot, Config.BAR), 4, address);
    memory.write(at(slot, Config.COMMAND), 2, Command.MEMORY);
  };
  place(1, 0xc0000000);
  assert.equal(memory.read(0xc0000000, 4), 11);

  const outs: number[] = [];
  const words = PciHotplug.create();
  const registers = new PciHotplug(words, (slots) => {
    outs.push(slots);
    PciBus.emptied(shared, slots);
  });
  const host = new PciHotplug(words, () => {});
  const { PLUGGED, ASKED_OUT, EJECT } = HotplugRegister;
  // Nobody asked for that.
  registers.write(EJECT, 4, 0xffffffff);
  assert.deepEqual([outs, host.takeEjected(), memory.read(0xc0000000, 4)], [[], [], 11]);

  sent.push(make(31, 12));
  PciBus.filled(shared, 31);
  host.plugged(31);
  host.plugged(2);
  assert.equal(registers.read(PLUGGED, 4), 0x80000004);
  registers.write(PLUGGED, 4, 4);
  assert.deepEqual([registers.read(PLUGGED, 4), registers.read(PLUGGED + 3, 1) & 0xff], [0x80000000, 0x80]);
  assert.equal(memory.read(at(31, Config.DEVICE), 2), 12);
  place(31, 0xc0001000);
  assert.equal(memory.read(0xc0001000, 4), 12);

  host.askOut(1);
  host.askOut(31);
  assert.equal(registers.read(ASKED_OUT, 4), 0x80000002);
  registers.write(ASKED_OUT, 4, 0x80000002);
  assert.equal(registers.read(ASKED_OUT, 4), 0);
  registers.write(EJECT, 1, 2);
  registers.write(EJECT, 4, 0x80000000);
  registers.write(EJECT, 4, 0x80000000);
  assert.deepEqual(
    [outs.map((slots) => slots >>> 0), host.takeEjected(), host.takeEjected()],
    [[0x80000000], [31], []],
  );
  assert.deepEqual([memory.read(0xc0001000, 4), memory.read(at(31, 0), 4)], [0xffffffff, 0xffffffff]);
  assert.equal(memory.read(0xc0000000, 4), 11, "the other one is there still");

  sent.push(make(31, 13));
  PciBus.filled(shared, 31);
  assert.equal(memory.read(0xc0001000, 4), 0xffffffff, "a new one has no place yet");
  place(31, 0xc0001000);
  assert.equal(memory.read(0xc0001000, 4), 13);
});
