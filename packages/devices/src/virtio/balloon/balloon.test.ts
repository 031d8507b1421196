import assert from "node:assert/strict";
import { closeSync, writeSync } from "node:fs";
import { test } from "node:test";
import { addressOf, MapFlag, memfdCreate, mmap, Protection } from "@lodge/linux";
import { TestGuest, TRANSITIONAL_KINDS } from "../testing/guest.ts";
import { BalloonDevice } from "./balloon.ts";

function start(features = -1n) {
  const released: [number, number][] = [];
  const sizes: number[] = [];
  const device = new BalloonDevice({
    release: (pages) => released.push([pages.byteOffset, pages.length]),
    onResize: (bytes) => sizes.push(bytes),
  });
  const guest = new TestGuest(device, { features }).start();
  return { device, guest, released, sizes };
}

const pfns = (...pages: number[]) => [...new Uint8Array(Uint32Array.from(pages).buffer)];

for (const { name, features } of TRANSITIONAL_KINDS) {
  test(`pages are released, neighbours together, over ${name}`, async () => {
    const { guest, released } = start(features);
    await guest.request(0, [guest.give(pfns(0x20, 0x21, 0x22, 0x40, 0x10, 0xffffffff, 0x100))]);
    assert.deepEqual(
      released,
      [
        [0x20000, 0x3000],
        [0x40000, 0x1000],
        [0x10000, 0x1000],
      ],
      "not what is not RAM",
    );
    await guest.request(1, [guest.give(pfns(0x20))]);
    const free = { gpa: 0x80000, length: 0x4000, deviceWrites: true };
    await guest.request(3, [free, { ...free, gpa: 0x90001, length: 0x1000 }]);
    assert.deepEqual(released.slice(3), [[0x80000, 0x4000]]);
  });
}

test("pages of a file that are released are zeros, as others are", async () => {
  const guest = new TestGuest(new BalloonDevice()).start();
  const [page, pages, at] = [0x1000, 4, 0x40000];
  const fd = memfdCreate("lodge-test");
  writeSync(fd, Buffer.alloc(pages * page, "file"));
  mmap({
    address: addressOf(guest.memory.buffer) + at,
    length: pages * page,
    protection: Protection.READ | Protection.WRITE,
    flags: MapFlag.PRIVATE | MapFlag.FIXED,
    fd,
  });
  guest.ram.mapped(at, pages * page);
  const firsts = () => Array.from({ length: pages + 2 }, (_, index) => guest.memory[at + (index - 1) * page]);
  const f = "f".charCodeAt(0);
  guest.memory[at - page] = 1;
  guest.memory[at] = 2;
  guest.memory[at + pages * page] = 3;
  assert.deepEqual(firsts(), [1, 2, f, f, f, 3]);
  await guest.request(3, [{ gpa: at - page, length: 3 * page, deviceWrites: true }]);
  assert.deepEqual(firsts(), [0, 0, 0, f, f, 3]);
  guest.memory[at] = 4;
  await guest.request(0, [guest.give(pfns(...[0, 3, 4].map((index) => at / page + index)))]);
  assert.deepEqual(firsts(), [0, 0, 0, f, 0, 0]);
  closeSync(fd);
});

test("the target goes to the guest, its answer comes back", () => {
  const { device, guest, sizes } = start();
  device.setTarget(3 << 20);
  assert.equal(guest.registers.read("device", 0, 4), 768);
  assert.equal(guest.messages.at(-1), 0);
  guest.registers.write("device", 4, 4, 512);
  assert.deepEqual([sizes, device.actualBytes], [[2 << 20], 2 << 20]);
  assert.throws(() => device.setTarget(-1), /a balloon of -1 bytes/);
});

test("poisoned pages are not released", async () => {
  const { guest, released } = start();
  guest.registers.write("device", 12, 4, 0xaaaaaaaa);
  await guest.request(3, [{ gpa: 0x80000, length: 0x1000, deviceWrites: true }]);
  assert.deepEqual(released, []);
});

test("statistics are asked for by giving the buffer back", async () => {
  const { device, guest } = start();
  const entry = (tag: number, value: number) => {
    const view = new DataView(new ArrayBuffer(10));
    view.setUint16(0, tag, true);
    view.setBigUint64(2, BigInt(value), true);
    return [...new Uint8Array(view.buffer)];
  };
  guest.send(2, [guest.give([...entry(4, 1), ...entry(5, 2)])]);
  const asked = device.statistics();
  assert.equal(guest.rings[2]!.take().length, 1);
  guest.send(2, [guest.give([...entry(4, 1000), ...entry(5, 2 ** 33), ...entry(99, 1)])]);
  assert.deepEqual(await asked, { free: 1000, total: 2 ** 33 });
  const again = device.statistics();
  assert.equal(guest.rings[2]!.take().length, 1, "the buffer had stayed");
  guest.send(2, [guest.give(entry(6, 7))]);
  assert.deepEqual(await again, { available: 7 });
  const { device: old } = start(~2n);
  await assert.rejects(old.statistics(), /has no statistics/);
});

test("saved and constructed, target and size are what they were", async () => {
  const { device, guest } = start();
  device.setTarget(1 << 20);
  guest.registers.write("device", 4, 4, 256);
  await guest.transport.pause();
  const options = { release: () => {} };
  const restored = new BalloonDevice(options, JSON.parse(JSON.stringify(device.save())));
  assert.deepEqual([restored.actualBytes, restored.config], [1 << 20, device.config]);
  assert.throws(
    () => new BalloonDevice(options, { ...device.save(), poison: -1 }),
    /virtio-balloon: poison is -1, not/,
  );
});
