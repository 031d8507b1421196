/** Configuration space, BARs and MSI-X, as a driver goes about them. */

import assert from "node:assert/strict";
import { test } from "node:test";
import type { Registers } from "@lodge/devices";
import type { Msi } from "@lodge/kvm";
import { Bus } from "../bus/bus.ts";
import { ECAM } from "../memory/address-map.ts";
import { PciBus, type PciFunction } from "./bus.ts";
import { ConfigSpace, type FunctionLayout } from "./config-space.ts";
import { Command, Config, MsiX } from "./layout.ts";
import { PciLines } from "./lines.ts";
import { MsixTable } from "./msix.ts";

const LAYOUT: FunctionLayout = {
  identity: {
    vendor: 0x1234,
    device: 0x5678,
    revision: 9,
    classCode: 0x020304,
    subsystemVendor: 0xaaaa,
    subsystem: 0xbbbb,
  },
  bars: [
    { kind: "memory", sizeBytes: 0x4000 },
    { kind: "io", sizeBytes: 32 },
    { kind: "memory64", sizeBytes: 2 ** 33 },
    undefined,
    { kind: "memory", sizeBytes: 4096 },
  ],
  interruptPin: true,
  msix: { vectors: 3, bar: 4 },
  capabilities: [Uint8Array.of(0x09, 8, 1, 2, 3, 4, 5)],
};

/** A function in slot 3, a bus with its ports and memory, and what its first BAR was told. */
function bench(layout = LAYOUT) {
  const told: string[] = [];
  const registers = (name: string): Registers => ({
    read: (offset) => {
      told.push(`${name} read ${offset.toString(16)}`);
      return 0x11223344;
    },
    write: (offset, size, value) => told.push(`${name} write ${offset.toString(16)} ${size} ${value.toString(16)}`),
  });
  const sent: Msi[] = [];
  const space = new ConfigSpace(ConfigSpace.create(), layout, true);
  space.placeBar(2, 2 ** 36);
  const msix = new MsixTable(MsixTable.create(3), space, (message) => sent.push(message));
  const one: PciFunction = {
    slot: 3,
    space,
    bars: [registers("memory"), registers("io"), registers("wide"), undefined, msix],
    configWritten: (offset) => {
      if (offset >= space.msixAt && offset < space.msixAt + 4) msix.controlWritten();
    },
  };
  const ports = new Bus("ports");
  const memory = new Bus("memory");
  new PciBus(PciBus.create(), [one], registers("reset")).connect(ports, memory);
  const at = (register: number) => ECAM.start + 3 * 0x8000 + register;
  const read = (register: number, size = 4) => memory.read(at(register), size);
  const write = (register: number, value: number, size = 4) => memory.write(at(register), size, value);
  return { told, sent, space, msix, ports, memory, read, write };
}

test("a function is found by memory and by ports, and nothing elsewhere", () => {
  const { ports, memory, read } = bench();
  assert.equal(read(Config.VENDOR), 0x56781234);
  assert.equal(read(Config.REVISION), 0x02030409);
  assert.equal(read(Config.SUBSYSTEM_VENDOR), 0xbbbbaaaa);
  assert.equal(read(Config.INTERRUPT_PIN, 1), 1);
  for (const elsewhere of [0, 4 * 0x8000, 3 * 0x8000 + 0x1000, 0x100000]) {
    assert.equal(memory.read(ECAM.start + elsewhere, 4), 0xffffffff);
  }
  const select = (register: number) => ports.write(0xcf8, 4, 0x80000000 + 3 * 0x800 + register);
  select(Config.VENDOR);
  assert.equal(ports.read(0xcf8, 4), 0x80001800);
  assert.deepEqual([ports.read(0xcfc, 4), ports.read(0xcfe, 2), ports.read(0xcfd, 1)], [0x56781234, 0x5678, 0x12]);
  select(Config.INTERRUPT_LINE);
  ports.write(0xcfc, 1, 7);
  assert.equal(read(Config.INTERRUPT_LINE, 1), 7);
  ports.write(0xcf8, 4, 0x1800);
  assert.equal(ports.read(0xcfc, 4), 0xffffffff, "without the enable bit");
  ports.write(0xcf8, 4, 0x80011800);
  assert.equal(ports.read(0xcfc, 4), 0xffffffff, "another bus");
});

test("the byte in the middle of the address register is the reset's", () => {
  const { ports, told } = bench();
  ports.write(0xcf9, 1, 6);
  assert.deepEqual(told, ["reset write 0 1 6"]);
  assert.equal(ports.read(0xcf8, 4), 0);
});

test("BARs tell their sizes, and what is fixed stays", () => {
  const { read, write } = bench();
  for (let bar = 0; bar < 6; bar++) write(Config.BAR + 4 * bar, 0xffffffff);
  assert.deepEqual(
    [0, 1, 2, 3, 4, 5].map((bar) => read(Config.BAR + 4 * bar)),
    [0xffffc000, 0xffffffe1, 0x0000000c, 0xfffffffe, 0xfffff000, 0],
  );
  write(Config.VENDOR, 0);
  write(Config.CAPABILITIES, 0xff, 1);
  write(Config.INTERRUPT_PIN, 0xff, 1);
  assert.equal(read(Config.VENDOR), 0x56781234);
  assert.deepEqual([read(Config.CAPABILITIES, 1), read(Config.INTERRUPT_PIN, 1)], [0x40, 1]);
});

test("capabilities are a list", () => {
  const { read } = bench();
  assert.equal(read(Config.STATUS, 2) & 0x10, 0x10);
  const first = read(Config.CAPABILITIES, 1);
  assert.equal(read(first, 1), 0x11);
  assert.equal(read(first + MsiX.CONTROL, 2), 2);
  assert.deepEqual([read(first + MsiX.TABLE), read(first + MsiX.PENDING)], [4, 0x800 + 4]);
  const second = read(first + 1, 1);
  assert.deepEqual([read(second, 1), read(second + 1, 1)], [9, 0]);
  assert.deepEqual([read(second + 2, 2), read(second + 4)], [0x0108, 0x05040302]);
});

test("a BAR answers where it is put, when it is switched on, and follows when it is moved", () => {
  const { memory, ports, write, told } = bench();
  const place = (address: number) => write(Config.BAR, address);
  place(0xc0000000);
  assert.equal(memory.read(0xc0000000, 4), 0xffffffff, "not switched on");
  write(Config.COMMAND, Command.MEMORY, 2);
  assert.equal(memory.read(0xc0000010, 4), 0x11223344);
  assert.equal(memory.read(0xc0000010, 1), 0x44);
  place(0xc8000000);
  assert.equal(memory.read(0xc0000010, 4), 0xffffffff, "moved away");
  memory.write(0xc8003ffc, 4, 0xabcd);
  // A 64-bit BAR above 4 GiB.
  write(Config.BAR + 12, 0x20);
  memory.write(2 ** 37 + 2 ** 33 - 4, 4, 1);
  write(Config.BAR + 4, 0xc000);
  assert.equal(ports.read(0xc000, 1), 0xff, "I/O is not switched on");
  write(Config.COMMAND, Command.IO, 2);
  ports.write(0xc01f, 1, 5);
  assert.equal(memory.read(0xc8000000, 4), 0xffffffff, "memory is switched off");
  assert.deepEqual(told, [
    "memory read 10",
    "memory read 10",
    "memory write 3ffc 4 abcd",
    "wide write 1fffffffc 4 1",
    "io write 1f 1 5",
  ]);
});

test("an MSI-X vector is sent, or waits behind its mask or the function's", () => {
  const { memory, write, space, msix, sent } = bench();
  write(Config.BAR + 16, 0xd0000000);
  write(Config.COMMAND, Command.MEMORY, 2);
  const entry = (vector: number, ...words: number[]) => {
    for (const [index, word] of words.entries()) memory.write(0xd0000000 + vector * 16 + index * 4, 4, word);
  };
  const control = (bits: number) => write(space.msixAt + MsiX.CONTROL, bits, 2);
  const data = () => sent.splice(0).map((message) => [message.addressLo, message.addressHi, message.data]);
  const pending = () => memory.read(0xd0000800, 1);

  entry(1, 0xfee00000, 0, 0x41, 0);
  msix.raise(1);
  assert.deepEqual([data(), pending()], [[], 2], "messages are not on");
  control(MsiX.ENABLE | MsiX.FUNCTION_MASK);
  assert.deepEqual([data(), pending()], [[], 2], "all are masked");
  control(MsiX.ENABLE);
  assert.deepEqual([data(), pending()], [[[0xfee00000, 0, 0x41]], 0]);
  assert.equal(msix.isEnabled, true);

  msix.raise(0);
  msix.raise(2);
  assert.deepEqual([data(), pending()], [[], 5], "entries begin masked");
  entry(0, 0xfee01000, 0, 0x50, 0);
  assert.deepEqual([data(), pending()], [[[0xfee01000, 0, 0x50]], 4]);
  msix.raise(77);
  memory.write(0xd0000800, 4, 0xffffffff);
  assert.deepEqual([data(), pending()], [[], 4], "pending bits are only read");
});

test("a line is up while one of its sharers holds it", () => {
  const levels: [number, boolean][] = [];
  const lines = new PciLines(PciLines.create(), (gsi) => ({ set: (high) => levels.push([gsi, high]) }));
  const [first, second, other] = [lines.pinA(1), lines.pinA(5), lines.pinA(2)];
  first.set(true);
  second.set(true);
  first.set(false);
  first.set(false);
  other.set(true);
  second.set(false);
  assert.deepEqual(levels, [
    [17, true],
    [18, true],
    [17, false],
  ]);
});
