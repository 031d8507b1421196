import assert from "node:assert/strict";
import { test } from "node:test";
import { RING_KINDS, TestGuest } from "../testing/guest.ts";
import { PmemDevice } from "./pmem.ts";

const memory = { name: "pmem.img", fd: -1, sizeBytes: 4 << 20, shared: true };
const FLUSH = [0, 0, 0, 0];

/** A host whose flushes end when the test says so. */
function slowHost() {
  const flushes: PromiseWithResolvers<void>[] = [];
  const flush = () => {
    flushes.push(Promise.withResolvers());
    return flushes.at(-1)!.promise;
  };
  return { flush, flushes };
}

for (const { name, features } of RING_KINDS) {
  test(`where it is, and flushes, over ${name}`, async () => {
    let flushed = 0;
    const device = new PmemDevice({ memory, flush: async () => void flushed++ });
    device.placed(0x1_4000_0000);
    const guest = new TestGuest(device, { features }).start();
    const config = [0, 4, 8, 12].map((offset) => guest.registers.read("device", offset, 4));
    assert.deepEqual(config, [0x4000_0000, 1, 4 << 20, 0]);
    const room = guest.room(4);
    guest.memory.fill(0xff, room.gpa, room.gpa + 4);
    assert.equal(await guest.request(0, [guest.give(FLUSH), room]), 4);
    assert.deepEqual([...guest.bytes(room)], [0, 0, 0, 0]);
    assert.equal(flushed, 1);
  });
}

test("who asks while a flush is under way waits for the next one, all of them for the same", async () => {
  const { flush, flushes } = slowHost();
  const guest = new TestGuest(new PmemDevice({ memory, flush })).start();
  const ask = () => guest.send(0, [guest.give(FLUSH), guest.room(4)]);
  const first = ask();
  const later = [ask(), ask(), ask()];
  assert.equal(flushes.length, 1);
  flushes[0]!.resolve();
  assert.deepEqual(
    (await guest.used(0)).map(({ token }) => token),
    [first],
  );
  assert.equal(flushes.length, 2);
  flushes[1]!.resolve();
  assert.deepEqual(
    (await guest.used(0)).map(({ token }) => token),
    later,
  );
});

test("a flush that fails, and a request that is none, are answered by 1", async () => {
  const guest = new TestGuest(new PmemDevice({ memory, flush: () => Promise.reject(new Error("EIO")) })).start();
  for (const request of [FLUSH, [1, 0, 0, 0]]) {
    const room = guest.room(4);
    assert.equal(await guest.request(0, [guest.give(request), room]), 4);
    assert.deepEqual([...guest.bytes(room)], [1, 0, 0, 0]);
  }
});

test("a request without room for an answer breaks the queue", () => {
  const guest = new TestGuest(new PmemDevice({ memory, flush: async () => {} })).start();
  guest.send(0, [guest.give(FLUSH), guest.room(3)]);
  assert.match(guest.failures.join(), /without a whole type or without room/);
});

test("a pause waits for the flush under way; a reset leaves nothing of it", async () => {
  const { flush, flushes } = slowHost();
  const guest = new TestGuest(new PmemDevice({ memory, flush })).start();
  guest.send(0, [guest.give(FLUSH), guest.room(4)]);
  let paused = false;
  const pausing = guest.transport.pause().then(() => {
    paused = true;
  });
  await new Promise((resolve) => setImmediate(resolve));
  assert.equal(paused, false);
  flushes[0]!.resolve();
  await pausing;
  guest.transport.resume();
  guest.status = 0;
  while (guest.status !== 0) await new Promise((resolve) => setImmediate(resolve));
  assert.equal(flushes.length, 1);
});

test("state of another file is refused", () => {
  const device = new PmemDevice({ memory, flush: async () => {} });
  const other = { ...memory, sizeBytes: 2 << 20 };
  assert.throws(() => new PmemDevice({ memory: other, flush: async () => {} }, device.save()), /is of another file/);
  new PmemDevice({ memory, flush: async () => {} }, device.save());
});
