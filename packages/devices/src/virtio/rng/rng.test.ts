import assert from "node:assert/strict";
import { test } from "node:test";
import { TestGuest, TRANSITIONAL_KINDS } from "../testing/guest.ts";
import { RngDevice } from "./rng.ts";

for (const { name, features } of TRANSITIONAL_KINDS) {
  test(`random bytes over ${name}`, async () => {
    let next = 0;
    const guest = new TestGuest(new RngDevice((target) => target.set(target.map(() => next++))), {
      features,
    }).start();
    const [one, two] = [guest.room(5), guest.room(300)];
    assert.equal(await guest.request(0, [one, two]), 305);
    assert.deepEqual([...guest.bytes(one)], [0, 1, 2, 3, 4]);
    assert.equal(guest.bytes(two)[299], 304 & 0xff);
    assert.equal(await guest.request(0, [guest.room(0x11000)], true), 0x10000);
  });
}

test("the system's own generator fills whatever length", async () => {
  const guest = new TestGuest(new RngDevice()).start();
  const room = guest.room(64);
  assert.equal(await guest.request(0, [room]), 64);
  assert.notDeepEqual(guest.bytes(room), new Uint8Array(64));
});

test("state of another device is refused", () => {
  const { device, ...rest } = new RngDevice().save();
  assert.throws(() => new RngDevice(undefined, { device: "virtio-blk", ...rest }), /state of virtio-rng was wanted/);
  assert.throws(() => new RngDevice(undefined, { device, version: 2 }), /has version 2; this Lodge reads version 1/);
  assert.throws(
    () => new RngDevice(undefined, { device, version: 1, more: 1 }),
    /state of virtio-rng: more is unknown/,
  );
});
