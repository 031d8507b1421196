/** The registers and what they start, through a device that only records what it is told. */

import assert from "node:assert/strict";
import { test } from "node:test";
import type { SavedState } from "../../state.ts";
import { Feature } from "../device.ts";
import { type GuestOptions, TestGuest } from "../testing/guest.ts";
import { Probe } from "../testing/probe.ts";
import { NO_VECTOR, Status } from "./shared.ts";

function guest(options: GuestOptions = {}) {
  const device = new Probe();
  return { device, guest: new TestGuest(device, options) };
}

test("a driver starts the device, which hears of rings", () => {
  const { device, guest: driver } = guest({ features: 0x4n | Feature.VERSION_1 });
  driver.start();
  assert.equal(driver.status, 15);
  driver.ring(1);
  driver.ring(2);
  assert.deepEqual(device.told, ["start 0x100000004", "queue 0", "queue 1", "queue 1"]);
});

test("the registers read back what was set", () => {
  const { guest: driver } = guest();
  driver.start(4);
  driver.setCommon(0x16, 2, 1);
  assert.deepEqual(
    [0x10, 0x12, 0x16, 0x18, 0x1a, 0x1c, 0x1e, 0x38].map((offset) => driver.common(offset, 2)),
    [0, 2, 1, 4, 2, 1, 1, 1],
  );
  assert.equal(driver.common(0x20, 4), driver.rings[1]!.areas.descriptors);
  assert.equal(driver.common(0x24, 4), 0);
  // Bytes of wider fields, as a careless driver reads them.
  assert.equal(driver.common(0x18, 1), 4);
  assert.equal(driver.common(0x12, 4), 2 | (15 << 16) | (driver.common(0x15, 1) << 24));
  // Far behind the registers there is nothing, and finding that out takes no time: found by the fuzzer.
  assert.equal(driver.common(0xfffffff0, 4), 0);
  driver.setCommon(0x16, 2, 2);
  assert.equal(driver.common(0x18, 2), 0, "a queue that does not exist has no size");
});

test("features that are not offered, or of an older virtio, are not accepted", () => {
  const { guest: driver } = guest();
  for (const [low, high] of [
    [0x2, 1],
    [0x4, 0],
    [0x4, 3],
  ] as const) {
    driver.status = 0;
    driver.status = Status.ACKNOWLEDGE | Status.DRIVER;
    driver.setCommon(8, 4, 0);
    driver.setCommon(12, 4, low);
    driver.setCommon(8, 4, 1);
    driver.setCommon(12, 4, high);
    driver.status = driver.status | Status.FEATURES_OK;
    assert.equal(driver.status, Status.ACKNOWLEDGE | Status.DRIVER);
    driver.status = driver.status | Status.DRIVER_OK;
    assert.equal(driver.status, Status.ACKNOWLEDGE | Status.DRIVER, "and the device is not started");
  }
  driver.setCommon(8, 4, 2);
  driver.setCommon(12, 4, 1);
  assert.equal(driver.common(12, 4), 0, "there is no third word of features");
});

test("what is fixed stays: features when accepted, queues when enabled, sizes that cannot be, fields by half", () => {
  const { guest: driver } = guest({ features: Feature.VERSION_1 });
  driver.negotiate();
  driver.setCommon(8, 4, 0);
  driver.setCommon(12, 4, 5);
  assert.equal(driver.common(12, 4), 0);
  driver.setCommon(0x16, 2, 0);
  for (const size of [0, 3, 16]) {
    driver.setCommon(0x18, 2, size);
    assert.equal(driver.common(0x18, 2), 8, `size ${size}`);
  }
  driver.setCommon(0x18, 1, 4);
  assert.equal(driver.common(0x18, 2), 8);
  driver.setCommon(0x1a, 2, 3);
  assert.equal(driver.common(0x1a, 2), NO_VECTOR, "a vector that does not exist");
  driver.enableQueue(0);
  driver.setCommon(0x20, 4, 0x1234);
  driver.setCommon(0x1c, 2, 0);
  assert.deepEqual([driver.common(0x20, 4), driver.common(0x1c, 2)], [driver.rings[0]!.areas.descriptors, 1]);
});

test("the device's configuration: reads of every width, writes where they are allowed, generations", () => {
  const { device, guest: driver } = guest();
  const read = (offset: number, size: number) => driver.registers.read("device", offset, size);
  assert.equal(read(0, 4), 0x04030201);
  assert.equal(read(1, 2), 0x0302);
  assert.equal(read(3, 4), 0x060504);
  assert.equal(read(5, 1), 6);
  assert.equal(read(6, 1), 0);
  assert.equal(read(0x1000, 4), 0);
  const before = driver.common(0x15, 1);
  device.change(9);
  assert.equal(read(0, 1), 9);
  assert.notEqual(driver.common(0x15, 1), before);
  assert.deepEqual(driver.messages, [], "nobody to tell yet");
  driver.registers.write("device", 3, 4, 0xdd0c0b0a);
  assert.equal(read(0, 4), 0x04030209);
  assert.equal(read(4, 2), 0x0c0b);
  assert.deepEqual(device.told, ["config 11,12"]);
  driver.start();
  device.change(10);
  assert.deepEqual(driver.messages, [0]);
});

test("a reset reads 0 when the device has stopped, and everything is as new", async () => {
  const { device, guest: driver } = guest();
  driver.start();
  let stopped = () => {};
  device.stopping = new Promise((resolve) => {
    stopped = resolve;
  });
  driver.status = 0;
  assert.notEqual(driver.status, 0);
  driver.ring(0);
  driver.status = Status.ACKNOWLEDGE;
  driver.setCommon(0x16, 2, 1);
  stopped();
  await new Promise((resolve) => setImmediate(resolve));
  assert.equal(driver.status, 0);
  assert.deepEqual([driver.common(0x16, 2), driver.common(0x18, 2), driver.common(0x1c, 2)], [0, 8, 0]);
  assert.equal(driver.common(0x1a, 2), NO_VECTOR);
  driver.start();
  assert.equal(driver.status, 15);
  const start = `start 0x${(5n | driver.features).toString(16)}`;
  assert.deepEqual(device.told, [start, "queue 0", "queue 1", "stop", start, "queue 0", "queue 1"]);
});

test("a reset before the device was started is done at once", () => {
  const { device, guest: driver } = guest();
  driver.negotiate();
  driver.status = 0;
  assert.equal(driver.status, 0);
  assert.deepEqual(device.told, []);
});

test("one queue is reset and enabled again", async () => {
  const { device, guest: driver } = guest();
  driver.start();
  driver.setCommon(0x16, 2, 1);
  driver.setCommon(0x3a, 2, 1);
  assert.equal(driver.common(0x3a, 2), 1);
  await new Promise((resolve) => setImmediate(resolve));
  assert.deepEqual([driver.common(0x3a, 2), driver.common(0x1c, 2)], [0, 0]);
  device.told.length = 0;
  driver.ring(1);
  driver.enableQueue(1, 4);
  driver.ring(1);
  assert.deepEqual(device.told, ["queue 0", "queue 1", "queue 1"].slice(1));
});

test("a broken ring and a device that gives up ask for a reset, once", async () => {
  const { device, guest: driver } = guest();
  driver.start();
  device.breakDown();
  device.breakDown();
  assert.equal(driver.status, 15 | Status.NEEDS_RESET);
  assert.deepEqual([driver.failures, driver.messages], [["it broke"], [0]]);
  driver.status = 0;
  await new Promise((resolve) => setImmediate(resolve));
  assert.equal(driver.status, 0);
});

test("queues outside RAM ask for a reset", () => {
  const { guest: driver } = guest();
  driver.negotiate();
  driver.setCommon(0x24, 4, 0xffffffff);
  driver.setCommon(0x1c, 2, 1);
  driver.status = driver.status | Status.DRIVER_OK;
  assert.match(driver.failures.join(), /queue 0: .*not in RAM/);
});

test("without MSI-X there is the line, until the ISR is read", () => {
  const { device, guest: driver } = guest({ messages: false });
  driver.start();
  device.change(1);
  assert.equal(driver.line, true);
  assert.equal(driver.registers.read("isr", 0, 1), 2);
  assert.equal(driver.line, false);
  assert.equal(driver.registers.read("isr", 0, 1), 0);
});

test("a paused device hears nothing until it goes on; saved and constructed, it goes on there", async () => {
  const { device, guest: driver } = guest({ features: ~Feature.RING_PACKED });
  driver.start();
  await driver.transport.pause();
  driver.ring(0);
  driver.transport.resume();
  assert.deepEqual(device.told.slice(3), ["pause", "resume", "queue 0", "queue 1"]);

  await driver.transport.pause();
  const saved = JSON.parse(JSON.stringify(driver.transport.save()));
  const { device: second, guest: restored } = guest({ saved });
  assert.deepEqual(second.told, [device.told[0]]);
  restored.transport.resume();
  assert.deepEqual(second.told.slice(1), ["resume", "queue 0", "queue 1"]);
  assert.deepEqual(restored.transport.save(), saved);
  assert.equal(restored.status, 15);
});

test("a device whose transport was closed, paused or not, serves the next one", async () => {
  const { device, guest: first } = guest({ features: ~Feature.RING_PACKED });
  first.start();
  await first.transport.pause();
  await first.transport.close();
  assert.deepEqual(device.told.slice(3), ["pause", "stop", "resume"]);
  const second = new TestGuest(device, { features: ~Feature.RING_PACKED });
  second.start();
  second.ring(1);
  assert.deepEqual(device.told.slice(6), [device.told[0], "queue 0", "queue 1", "queue 1"]);
});

test("state of another device is refused", () => {
  const { guest: driver } = guest();
  const saved = driver.transport.save();
  const change = (fields: object) => () => guest({ saved: { ...saved, ...fields } as SavedState });
  assert.throws(change({ driverFeatures: "0x2" }), /features 0x2, which this device does not offer/);
  assert.throws(change({ queues: [] }), /it has 0 queues, this device 2/);
  assert.throws(change({ status: 256 }), /virtio-transport: status is 256, not a whole number from 0 to 255/);
  const queues = saved.queues as object[];
  assert.throws(change({ queues: [queues[0], { ...queues[1], size: "8" }] }), /queues\.1\.size is "8", not/);
});
