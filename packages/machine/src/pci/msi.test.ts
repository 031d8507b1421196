/** Messages without a table, as a driver goes about them, and a hostile one; the serial card that has one. */

import assert from "node:assert/strict";
import { test } from "node:test";
import { type Msi, SharedLock } from "@lodge/kvm";
import { Bus } from "../bus/bus.ts";
import { ECAM } from "../memory/address-map.ts";
import { PciBus } from "./bus.ts";
import { ConfigSpace, type FunctionLayout } from "./config-space.ts";
import { Capability, Command, Config, MsiField } from "./layout.ts";
import { MsiMessages } from "./msi.ts";
import { SerialCard } from "./serial-card.ts";

const AT = Config.DEVICE_SPECIFIC;

function messages(vectors: 1 | 8 | 32) {
  const layout: FunctionLayout = {
    identity: { vendor: 1, device: 2, revision: 3, classCode: 4, subsystemVendor: 5, subsystem: 6 },
    bars: [],
    interruptPin: true,
    msi: { vectors },
    capabilities: [],
  };
  const sent: Msi[] = [];
  const space = new ConfigSpace(ConfigSpace.create(), layout, true);
  const msi = new MsiMessages(MsiMessages.create(), space, (message) => sent.push(message));
  const write = (field: number, size: number, value: number) => {
    space.write(AT + field, size, value);
    msi.written();
  };
  const read = (field: number, size = 4) => space.read(AT + field, size);
  /** Takes what was sent since the last time. */
  const data = () => sent.splice(0).map((message) => message.data);
  return { space, msi, sent, read, write, data };
}

test("the capability tells how many messages there are, and takes an address, data and masks", () => {
  const { space, read, write } = messages(8);
  assert.equal(space.read(Config.CAPABILITIES, 1), AT);
  assert.deepEqual([read(0, 1), read(1, 1)], [Capability.MSI, 0]);
  const fixed = (3 << MsiField.WANTED_SHIFT) | MsiField.ADDRESS_64 | MsiField.MASKABLE;
  assert.equal(read(MsiField.CONTROL, 2), fixed);
  for (let field = MsiField.CONTROL; field < MsiField.CAPABILITY_BYTES; field++) write(field, 1, 0xff);
  assert.equal(read(MsiField.CONTROL, 2), fixed | MsiField.ENABLE | MsiField.GRANTED);
  const fields = [MsiField.ADDRESS_LOW, MsiField.ADDRESS_HIGH, MsiField.DATA, MsiField.MASK, MsiField.PENDING];
  assert.deepEqual(
    fields.map((field) => read(field)),
    [0xfffffffc, 0xffffffff, 0xffff, 0xff, 0],
  );
});

test("each vector is a message of its own as far as the driver has room for them", () => {
  const { msi, sent, write, data } = messages(8);
  write(MsiField.ADDRESS_LOW, 4, 0xfee01000);
  write(MsiField.ADDRESS_HIGH, 4, 0x12);
  write(MsiField.DATA, 2, 0x4147);
  msi.raise(5);
  assert.deepEqual(data(), [], "while messages are off");
  write(MsiField.CONTROL, 2, MsiField.ENABLE | (2 << MsiField.GRANTED_SHIFT));
  assert.deepEqual(data(), []);
  msi.raise(2);
  assert.deepEqual(sent, [{ addressLo: 0xfee01000, addressHi: 0x12, data: 0x4146, flags: 0, devid: 0 }]);
  msi.raise(5);
  assert.deepEqual(data(), [0x4146, 0x4145], "of four messages");
  write(MsiField.CONTROL, 2, MsiField.ENABLE);
  msi.raise(5);
  assert.deepEqual(data(), [0x4147], "all vectors are one message");
  write(MsiField.CONTROL, 2, MsiField.ENABLE | MsiField.GRANTED);
  msi.raise(7);
  assert.deepEqual(data(), [0x4147], "more than there are is as many as there are");
});

test("what is masked waits, and goes out once", () => {
  const { msi, read, write, data } = messages(32);
  write(MsiField.DATA, 2, 0x20);
  write(MsiField.CONTROL, 2, MsiField.ENABLE | (5 << MsiField.GRANTED_SHIFT));
  write(MsiField.MASK, 4, 0x80000002);
  for (const vector of [1, 31, 31, 0]) msi.raise(vector);
  assert.deepEqual(data(), [0x20]);
  assert.equal(read(MsiField.PENDING), 0x80000002);
  write(MsiField.MASK, 4, 2);
  assert.deepEqual(data(), [0x3f]);
  assert.equal(read(MsiField.PENDING), 2);
  write(MsiField.CONTROL, 2, 0);
  write(MsiField.MASK, 4, 0);
  write(MsiField.CONTROL, 2, MsiField.ENABLE);
  assert.deepEqual(data(), [], "what waited when messages were switched off");
});

/** A serial card on a bus, its pin and what it sends. */
function card() {
  const pins: boolean[] = [];
  const sent: Msi[] = [];
  const handle = SerialCard.create(31);
  const wires = { pin: { set: (high: boolean) => pins.push(high) }, send: (message: Msi) => sent.push(message) };
  const one = new SerialCard(handle, { ...wires, wakeHost: () => {} });
  const memory = new Bus("memory");
  const ports = new Bus("ports");
  const nothing = { read: () => 0, write: () => {} };
  new PciBus(PciBus.create(), [one], nothing).connect(ports, memory);
  const at = (register: number) => ECAM.start + 31 * 0x8000 + register;
  return {
    one,
    handle,
    memory,
    pins,
    sent,
    read: (register: number, size = 4) => memory.read(at(register), size),
    write: (register: number, value: number, size = 4) => memory.write(at(register), size, value),
  };
}

const BAR = 0xc0000000;

test("a serial card interrupts by its pin until messages are on, and by one each time that it has something", () => {
  const { one, memory, pins, sent, write, read } = card();
  write(Config.BAR, BAR);
  write(Config.COMMAND, Command.MEMORY | Command.BUS_MASTER, 2);
  memory.write(BAR + 1, 1, 1);
  pins.length = 0;
  one.uart.receive(Uint8Array.of(65));
  assert.deepEqual(pins, [true]);
  assert.notEqual(read(Config.STATUS, 2) & 8, 0);
  write(Config.COMMAND, Command.MEMORY | Command.INTX_DISABLE, 2);
  assert.deepEqual(pins, [true, false], "the pin is off");
  write(Config.COMMAND, Command.MEMORY | Command.BUS_MASTER, 2);
  write(AT + MsiField.ADDRESS_LOW, 0xfee00000);
  write(AT + MsiField.DATA, 0x31, 2);
  pins.length = 0;
  write(AT + MsiField.CONTROL, MsiField.ENABLE, 2);
  assert.deepEqual(pins, [false], "it falls");
  assert.deepEqual(
    sent.map(({ addressLo, data }) => [addressLo, data]),
    [[0xfee00000, 0x31]],
    "what it wanted already",
  );
  assert.equal(memory.read(BAR, 1), 65);
  one.uart.receive(Uint8Array.of(66));
  assert.equal(sent.length, 2);
  assert.ok(!pins.includes(true));
  // Beyond the port there is nothing.
  assert.equal(memory.read(BAR + 8, 4), 0xffffffff);
  assert.equal(memory.read(BAR + 5, 4), 0xffffffff);
});

test("a hundred thousand random accesses change nothing that is fixed, and leave no lock behind", () => {
  const seed = Number(process.env.LODGE_SEED ?? Math.floor(Math.random() * 2 ** 31));
  let state = seed >>> 0;
  // mulberry32
  const random = (below: number) => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) % below;
  };
  const { one, handle, memory, pins, sent, read, write } = card();
  const fixed = [0, 8, Config.SUBSYSTEM_VENDOR, Config.CAPABILITIES].map((register) => [register, read(register)]);
  const vectors = read(AT + MsiField.CONTROL, 2) & ~(MsiField.ENABLE | MsiField.GRANTED);
  for (let turn = 0; turn < 100_000; turn++) {
    const size = [1, 2, 4][random(3)]!;
    const value = random(2 ** 32) % 2 ** (8 * size);
    switch (random(5)) {
      case 0:
        write(AT + random(MsiField.CAPABILITY_BYTES + 4), value, size);
        break;
      case 1:
        write(random(Config.BYTES), value, size);
        break;
      case 2: {
        const address = one.space.barAddress(0);
        if (address !== undefined) memory.write(address + random(12), size, value);
        break;
      }
      case 3: {
        const address = one.space.barAddress(0);
        if (address !== undefined) memory.read(address + random(12), size);
        else write(Config.COMMAND, Command.MEMORY, 2);
        break;
      }
      default:
        one.uart.receive(Uint8Array.of(value & 0xff));
        one.uart.transmitted();
    }
    const isMessages = (read(AT + MsiField.CONTROL, 2) & MsiField.ENABLE) !== 0;
    assert.ok(!isMessages || pins.at(-1) !== true, `turn ${turn} of LODGE_SEED=${seed}: the pin beside messages`);
    for (const { addressLo, data } of sent.splice(0)) assert.ok(addressLo % 4 === 0 && data <= 0xffff);
    pins.splice(0, pins.length - 1);
  }
  for (const [register, value] of fixed) assert.equal(read(register!), value, `LODGE_SEED=${seed}`);
  assert.equal(read(AT + MsiField.CONTROL, 2) & ~(MsiField.ENABLE | MsiField.GRANTED), vectors);
  assert.equal(read(AT + MsiField.PENDING) & ~1, 0);
  for (const shared of [handle.interrupt.words, handle.interrupt.msi]) {
    // Would wait for ever.
    const lock = new SharedLock(new Int32Array(shared), 0);
    lock.acquire();
    lock.release();
  }
});
