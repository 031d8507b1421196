/** The registers from before virtio 1, through a device that only records what it is told. */

import assert from "node:assert/strict";
import { test } from "node:test";
import { Feature } from "../device.ts";
import { TestGuest } from "../testing/guest.ts";
import { Probe } from "../testing/probe.ts";
import { LegacyRegisters } from "./legacy-registers.ts";
import { NO_VECTOR, Status, Word } from "./shared.ts";

const LEGACY = ~(Feature.VERSION_1 | Feature.RING_PACKED);
const PAGE = 4096;

function guest(options: ConstructorParameters<typeof TestGuest>[1] = {}) {
  const device = new Probe();
  const driver = new TestGuest(device, { features: LEGACY, ...options });
  return { device, driver, registers: driver.legacy };
}

test("a driver starts the device, which hears of rings and that it has no VERSION_1", () => {
  const { device, driver } = guest({ features: 0x4n });
  driver.start();
  driver.ring(1);
  driver.ring(2);
  assert.deepEqual(device.told, ["start 0x4", "queue 0", "queue 1", "queue 1"]);
  assert.equal(device.isLegacy, true);
  const other = new Probe();
  new TestGuest(other).start();
  assert.equal(other.isLegacy, false);
});

test("the registers read back what was set, in any width", () => {
  const { driver, registers } = guest();
  driver.start();
  registers.write(14, 2, 1);
  const { descriptors } = driver.rings[1]!.areas;
  assert.equal(registers.read(8, 4), descriptors / PAGE);
  assert.deepEqual([registers.read(12, 2), registers.read(14, 2), registers.read(22, 2)], [16, 1, 2]);
  assert.equal(registers.read(18, 1), Status.ACKNOWLEDGE | Status.DRIVER | Status.DRIVER_OK);
  assert.equal(registers.read(12, 4), 16 | (1 << 16));
  assert.equal(registers.read(12, 1), 16);
  registers.write(14, 2, 2);
  assert.deepEqual([registers.read(8, 4), registers.read(12, 2), registers.read(22, 2)], [0, 0, 0]);
  registers.write(20, 2, 17);
  assert.equal(registers.read(20, 2), NO_VECTOR, "a vector that does not exist");
});

test("features are 32 bits of what is offered, and stay when the device has started", () => {
  const { driver, registers } = guest();
  const offered = registers.read(0, 4);
  assert.equal(offered, Number((driver.transport.handle.features & 0xffffffffn) | (1n << 27n)));
  registers.write(4, 4, 0xffffffff);
  assert.equal(registers.read(4, 4), Number(driver.transport.handle.features & 0xffffffffn));
  driver.start();
  registers.write(4, 4, 0);
  assert.notEqual(registers.read(4, 4), 0);
});

test("the configuration begins where the vectors do while there is no MSI-X", () => {
  const { driver, registers, device } = guest();
  assert.deepEqual([registers.read(24, 1), registers.read(26, 2)], [1, 0x0403]);
  const line = new LegacyRegisters(
    driver.transport.handle,
    { control: () => driver.transport.control(), notify: () => {}, lowerLine: () => {} },
    { messages: false, wait: () => {} },
  );
  assert.deepEqual([line.read(20, 1), line.read(22, 2)], [1, 0x0403]);
  line.write(24, 2, 0xbbaa);
  assert.deepEqual(device.told, ["config 170,187"]);
  assert.equal(line.read(19, 1), 0, "nothing to acknowledge");
});

test("a ring of a queue that has its page starts the device, as Linux before 3.19 did", () => {
  const { device, registers } = guest();
  registers.write(16, 2, 0);
  assert.deepEqual(device.told, [], "it has none yet");
  registers.write(8, 4, 2);
  registers.write(16, 2, 0);
  assert.deepEqual(device.told, ["start 0x0", "queue 0", "queue 0"]);
  registers.write(14, 2, 1);
  registers.write(8, 4, 4);
  registers.write(16, 2, 1);
  assert.deepEqual(device.told.slice(3), ["queue 1", "queue 1"], "a queue that comes later");
});

test("a reset is waited for", async () => {
  const { device, driver } = guest();
  driver.start();
  const waits: number[] = [];
  const events = { control: () => driver.transport.control(), notify: () => {}, lowerLine: () => {} };
  const wait = (words: Int32Array, word: number) => void waits.push(word, words[word]!);
  const registers = new LegacyRegisters(driver.transport.handle, events, { messages: true, wait });
  let stopped = () => {};
  device.stopping = new Promise((resolve) => {
    stopped = resolve;
  });
  registers.write(18, 1, 0);
  assert.deepEqual(waits, [Word.RESETTING, 1]);
  registers.write(18, 1, Status.ACKNOWLEDGE);
  assert.equal(registers.read(18, 1) & Status.DRIVER_OK, Status.DRIVER_OK, "and nothing is set up before it is over");
  const words = new Int32Array(driver.transport.handle.buffer);
  const over = Atomics.waitAsync(words, Word.RESETTING, 1);
  stopped();
  assert.equal(await over.value, "ok");
  assert.deepEqual([registers.read(18, 1), registers.read(8, 4)], [0, 0]);
});

test("a queue without a page is stopped", async () => {
  const { device, driver, registers } = guest();
  driver.start();
  device.told.length = 0;
  registers.write(14, 2, 1);
  registers.write(8, 4, 0);
  await new Promise((resolve) => setImmediate(resolve));
  assert.deepEqual(device.told, ["stop queue 1", "queue 0"]);
  assert.equal(registers.read(8, 4), 0);
});

test("saved and constructed, it goes on", async () => {
  const { driver } = guest();
  driver.start();
  await driver.transport.pause();
  const saved = JSON.parse(JSON.stringify(driver.transport.save()));
  const { device, driver: restored } = guest({ saved });
  restored.transport.resume();
  assert.deepEqual(device.told.slice(1), ["resume", "queue 0", "queue 1"]);
  assert.equal(device.isLegacy, true);
  assert.deepEqual(restored.transport.save(), saved);
});
