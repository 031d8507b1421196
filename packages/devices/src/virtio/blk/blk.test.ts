import assert from "node:assert/strict";
import { mkdtempDisposableSync, readFileSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { type Disk, openImage } from "@lodge/storage";
import { TestGuest, TRANSITIONAL_KINDS } from "../testing/guest.ts";
import type { Buffer } from "../testing/ring.ts";
import { BlkDevice, type RequestFailure } from "./blk.ts";
import { BlkFeature, Config, Request } from "./layout.ts";

const SECTORS = 256;

/** A disk in memory that notes what it is asked and can be held up. */
class MemoryDisk implements Disk {
  sizeBytes = SECTORS * 512;
  readonly readOnly: boolean;
  readonly content = Uint8Array.from({ length: this.sizeBytes }, (_, at) => at >> 9);
  readonly calls: string[] = [];
  failing = false;
  /** What transfers wait for. */
  gate: Promise<void> = Promise.resolve();

  constructor(readOnly = false) {
    this.readOnly = readOnly;
  }
  async #enter(call: string): Promise<void> {
    this.calls.push(call);
    await this.gate;
    if (this.failing) throw new Error("the disk is broken");
  }
  async read(offset: number, pieces: readonly Uint8Array[]): Promise<void> {
    await this.#enter(`read ${offset}`);
    for (const piece of pieces) {
      piece.set(this.content.subarray(offset, offset + piece.length));
      offset += piece.length;
    }
  }
  async write(offset: number, pieces: readonly Uint8Array[]): Promise<void> {
    await this.#enter(`write ${offset}`);
    for (const piece of pieces) {
      this.content.set(piece, offset);
      offset += piece.length;
    }
  }
  async flush(): Promise<void> {
    await this.#enter("flush");
  }
  async discard(offset: number, length: number): Promise<void> {
    await this.#enter(`discard ${offset} ${length}`);
  }
  async writeZeroes(offset: number, length: number, mayUnmap: boolean): Promise<void> {
    await this.#enter(`zero ${offset} ${length} ${mayUnmap}`);
  }
  async close(): Promise<void> {}
}

function header(type: number, sector: number): Uint8Array {
  const view = new DataView(new ArrayBuffer(16));
  view.setUint32(0, type, true);
  view.setBigUint64(8, BigInt(sector), true);
  return new Uint8Array(view.buffer);
}

function segment(sector: number, sectors: number, flags = 0): number[] {
  const view = new DataView(new ArrayBuffer(16));
  view.setBigUint64(0, BigInt(sector), true);
  view.setUint32(8, sectors, true);
  view.setUint32(12, flags, true);
  return [...new Uint8Array(view.buffer)];
}

/** Sends a request and returns its status. */
async function ask(guest: TestGuest, type: number, sector: number, data: Buffer[] = [], queue = 0): Promise<number> {
  const status = guest.room(1);
  const buffers = [guest.give(header(type, sector)), ...data, status];
  const room = buffers.filter(({ deviceWrites }) => deviceWrites).reduce((sum, { length }) => sum + length, 0);
  assert.equal(await guest.request(queue, buffers, data.length > 1), room);
  return guest.bytes(status)[0]!;
}

for (const { name, features } of TRANSITIONAL_KINDS) {
  test(`reads, writes and flushes over ${name}`, async () => {
    const disk = new MemoryDisk();
    const guest = new TestGuest(new BlkDevice({ disk, queues: 2 }), { features }).start();
    const [one, two] = [guest.room(512), guest.room(1024)];
    assert.equal(await ask(guest, Request.IN, 7, [one, two]), 0);
    assert.deepEqual([guest.bytes(one)[511], guest.bytes(two)[0], guest.bytes(two)[1023]], [7, 8, 9]);
    assert.equal(await ask(guest, Request.OUT, 250, [guest.give(new Uint8Array(1024).fill(0xee))], 1), 0);
    assert.deepEqual([disk.content[250 * 512 - 1], disk.content[250 * 512], disk.content[252 * 512]], [249, 0xee, 252]);
    assert.equal(await ask(guest, Request.FLUSH, 0), 0);
    assert.deepEqual(disk.calls, ["read 3584", "write 128000", "flush"]);
  });
}

test("a header may lie in any pieces, and a status at the end of the data", async () => {
  const guest = new TestGuest(new BlkDevice({ disk: new MemoryDisk() })).start();
  const bytes = header(Request.IN, 3);
  const room = guest.room(513);
  await guest.request(0, [guest.give(bytes.subarray(0, 5)), guest.give(bytes.subarray(5)), room]);
  assert.deepEqual([guest.bytes(room)[0], guest.bytes(room)[512]], [3, 0]);
});

test("a raw file is the disk", async () => {
  using dir = mkdtempDisposableSync(join(tmpdir(), "lodge-blk-"));
  const path = join(dir.path, "disk");
  writeFileSync(
    path,
    Uint8Array.from({ length: 64 * 512 }, (_, at) => at >> 9),
  );
  const disk = await openImage(path);
  const guest = new TestGuest(new BlkDevice({ disk })).start();
  const room = guest.room(1024);
  assert.equal(await ask(guest, Request.IN, 62, [room]), 0);
  assert.deepEqual([guest.bytes(room)[0], guest.bytes(room)[1023]], [62, 63]);
  assert.equal(
    await ask(guest, Request.OUT, 1, [guest.give(new Uint8Array(512).fill(1)), guest.give(new Uint8Array(512))]),
    0,
  );
  assert.equal(await ask(guest, Request.WRITE_ZEROES, 0, [guest.give(segment(8, 8))]), 0);
  const sectors = [...readFileSync(path)].filter((_, at) => at % 512 === 0).slice(0, 18);
  assert.deepEqual(sectors, [0, 1, 0, 3, 4, 5, 6, 7, 0, 0, 0, 0, 0, 0, 0, 0, 16, 17]);
  await guest.transport.close();
  await disk.close();
});

test("what is outside the disk, or not whole sectors, is an I/O error", async () => {
  const disk = new MemoryDisk();
  const guest = new TestGuest(new BlkDevice({ disk })).start();
  for (const [type, sector, length] of [
    [Request.IN, SECTORS, 512],
    [Request.IN, SECTORS - 1, 1024],
    [Request.IN, 0, 511],
    [Request.IN, 2 ** 55, 512],
    [Request.OUT, SECTORS, 512],
    [Request.OUT, 0, 513],
  ] as const) {
    const data = type === Request.IN ? guest.room(length) : guest.give(new Uint8Array(length));
    assert.equal(await ask(guest, type, sector, [data]), 1, `${type} ${sector} ${length}`);
  }
  assert.deepEqual(disk.calls, []);
});

test("discards and zeroes are checked whole before the first is done", async () => {
  const disk = new MemoryDisk();
  const guest = new TestGuest(new BlkDevice({ disk })).start();
  const clear = (type: number, ...segments: number[][]) => ask(guest, type, 0, [guest.give(segments.flat())]);
  assert.equal(await clear(Request.DISCARD, segment(8, 8), segment(0, 1)), 0);
  assert.equal(await clear(Request.WRITE_ZEROES, segment(1, 2), segment(3, 4, 1)), 0);
  const done = ["discard 4096 4096", "discard 0 512", "zero 512 1024 false", "zero 1536 2048 true"];
  assert.deepEqual(disk.calls, done);
  assert.equal(await clear(Request.DISCARD, segment(0, 8), segment(SECTORS, 1)), 1);
  assert.equal(await clear(Request.DISCARD, segment(0, 8, 1)), 2);
  assert.equal(await clear(Request.WRITE_ZEROES, segment(0, 8, 2)), 2);
  assert.equal(await clear(Request.WRITE_ZEROES, segment(0, 0xffffffff)), 1);
  assert.equal(await clear(Request.WRITE_ZEROES, ...Array.from({ length: 17 }, () => segment(0, 1))), 2);
  assert.equal(await clear(Request.DISCARD, segment(0, 1).slice(1)), 2);
  assert.deepEqual(disk.calls, done);
});

test("serial and configuration", async () => {
  const guest = new TestGuest(new BlkDevice({ disk: new MemoryDisk(), queues: 3, serial: "lodge-1" })).start();
  const room = guest.room(20);
  assert.equal(await ask(guest, Request.GET_ID, 0, [room]), 0);
  assert.equal(new TextDecoder().decode(guest.bytes(room)), "lodge-1".padEnd(20, "\0"));
  assert.equal(guest.registers.read("device", Config.CAPACITY, 4), SECTORS);
  assert.equal(guest.registers.read("device", Config.NUM_QUEUES, 2), 3);
  assert.equal(guest.registers.read("device", Config.SEG_MAX, 4), 254);
  assert.equal(await ask(guest, 99, 0), 2, "a request that nobody knows");
});

test("a read-only disk is not written", async () => {
  const disk = new MemoryDisk(true);
  const guest = new TestGuest(new BlkDevice({ disk })).start();
  assert.ok(guest.features & BlkFeature.RO);
  assert.ok(!(guest.features & BlkFeature.DISCARD));
  assert.equal(await ask(guest, Request.OUT, 0, [guest.give(new Uint8Array(512))]), 1);
  assert.equal(await ask(guest, Request.DISCARD, 0, [guest.give(segment(0, 1))]), 1);
  assert.deepEqual(disk.calls, []);
});

test("a driver without flushes, or that turns the cache off, has its writes made lasting", async () => {
  const write = (guest: TestGuest) => ask(guest, Request.OUT, 0, [guest.give(new Uint8Array(512))]);
  const disk = new MemoryDisk();
  const old = new TestGuest(new BlkDevice({ disk }), { features: ~(BlkFeature.FLUSH | BlkFeature.CONFIG_WCE) }).start();
  await write(old);
  assert.deepEqual(disk.calls.splice(0), ["write 0", "flush"]);
  const guest = new TestGuest(new BlkDevice({ disk })).start();
  await write(guest);
  guest.registers.write("device", Config.WRITEBACK, 1, 0);
  await write(guest);
  assert.deepEqual(disk.calls, ["write 0", "write 0", "flush"]);
});

test("a driver has a large request back before the next one is copied, and small ones together", async () => {
  for (const [bytes, before] of [
    [SECTORS * 512, [0, 1, 2]],
    [512, [0, 0, 0]],
  ] as const) {
    const disk = new MemoryDisk();
    const guest = new TestGuest(new BlkDevice({ disk })).start();
    const ring = guest.rings[0]!;
    const given: number[] = [];
    let back = 0;
    const read = disk.read.bind(disk);
    disk.read = (offset, pieces) => {
      back += ring.take().length;
      given.push(back);
      return read(offset, pieces);
    };
    for (let count = 0; count < 3; count++) {
      ring.add([guest.give(header(Request.IN, 0)), guest.room(bytes), guest.room(1)]);
    }
    guest.transport.notified(0);
    for (let turn = 0; turn < 10; turn++) await new Promise((done) => setImmediate(done));
    assert.deepEqual([given, back + ring.take().length], [before, 3]);
  }
});

test("a disk that fails is an I/O error, and told of", async () => {
  const disk = new MemoryDisk();
  disk.failing = true;
  const errors: string[] = [];
  const guest = new TestGuest(new BlkDevice({ disk, onError: ({ error }) => errors.push(error.message) })).start();
  for (const type of [Request.IN, Request.FLUSH]) assert.equal(await ask(guest, type, 0, [guest.room(512)]), 1);
  assert.deepEqual(errors, ["the disk is broken", "the disk is broken"]);
});

for (const { name, features } of TRANSITIONAL_KINDS) {
  test(`requests that fail are held until the device goes on, and nothing is lost: ${name}`, async () => {
    const disk = new MemoryDisk();
    disk.failing = true;
    const told: string[] = [];
    const onError = ({ operation, action }: RequestFailure) => told.push(`${operation} ${action}`);
    const device = new BlkDevice({ disk, errors: "stop", onError });
    const guest = new TestGuest(device, { features }).start();
    const write = (sector: number) => {
      const status = guest.room(1);
      const token = guest.send(0, [
        guest.give(header(Request.OUT, sector)),
        guest.give(new Uint8Array(512).fill(0xe0 + sector)),
        status,
      ]);
      return { status, token };
    };
    const requests = [write(1), write(2)];
    await new Promise((done) => setImmediate(done));
    assert.deepEqual(told, ["write stop", "write stop"]);
    // Still full: once more in vain.
    await guest.transport.pause();
    assert.throws(() => device.save(), { code: "DEVICE_STATE", message: /2 requests that failed/ });
    guest.transport.resume();
    await new Promise((done) => setImmediate(done));
    assert.equal(told.length, 4);
    assert.deepEqual(guest.rings[0]!.take(), []);
    await guest.transport.pause();
    disk.failing = false;
    guest.transport.resume();
    const used: number[] = [];
    while (used.length < 2) used.push(...(await guest.used(0)).map(({ token }) => token));
    assert.deepEqual(
      used.sort(),
      requests.map(({ token }) => token),
    );
    assert.deepEqual(
      requests.map(({ status }) => guest.bytes(status)[0]),
      [0, 0],
    );
    assert.deepEqual([disk.content[512], disk.content[1024]], [0xe1, 0xe2]);
    device.save();
  });
}

test("a driver's reset forgets what is held", async () => {
  const disk = new MemoryDisk();
  disk.failing = true;
  const device = new BlkDevice({ disk, errors: "stop" });
  const guest = new TestGuest(device).start();
  guest.send(0, [guest.give(header(Request.OUT, 0)), guest.give(new Uint8Array(512)), guest.room(1)]);
  await new Promise((done) => setImmediate(done));
  guest.status = 0;
  await new Promise((done) => setImmediate(done));
  assert.equal(guest.status, 0);
  const { length } = disk.calls;
  await guest.transport.pause();
  guest.transport.resume();
  assert.equal(disk.calls.length, length);
});

test("errors may be ignored", async () => {
  const disk = new MemoryDisk();
  disk.failing = true;
  const guest = new TestGuest(new BlkDevice({ disk, errors: "ignore" })).start();
  assert.equal(await ask(guest, Request.OUT, 0, [guest.give(new Uint8Array(512))]), 0);
});

test("without a cache the guest is told of none, and writes are lasting", async () => {
  const disk = new MemoryDisk();
  const guest = new TestGuest(new BlkDevice({ disk, cache: false })).start();
  assert.ok(!(guest.features & (BlkFeature.FLUSH | BlkFeature.CONFIG_WCE)));
  assert.equal(guest.registers.read("device", Config.WRITEBACK, 1), 0);
  await ask(guest, Request.OUT, 0, [guest.give(new Uint8Array(512))]);
  assert.deepEqual(disk.calls, ["write 0", "flush"]);
});

test("another size: the driver is told, and can use it", async () => {
  const disk = new MemoryDisk();
  const device = new BlkDevice({ disk });
  const guest = new TestGuest(device).start();
  const generation = guest.common(0x15, 1);
  const told = guest.interrupt();
  disk.sizeBytes = (SECTORS / 2) * 512;
  device.resized();
  await told;
  assert.notEqual(guest.common(0x15, 1), generation);
  assert.equal(guest.registers.read("device", Config.CAPACITY, 4), SECTORS / 2);
  assert.equal(await ask(guest, Request.IN, SECTORS / 2 - 1, [guest.room(512)]), 0);
  assert.equal(await ask(guest, Request.IN, SECTORS / 2, [guest.room(512)]), 1);
});

test("a request without header or status breaks the queue", () => {
  for (const buffers of [[16], [15, -1]]) {
    const guest = new TestGuest(new BlkDevice({ disk: new MemoryDisk() })).start();
    const chain = buffers.map((length) => (length < 0 ? guest.room(1) : guest.give(new Uint8Array(length))));
    guest.send(0, chain);
    assert.match(guest.failures.join(), /queue 0: a request without/);
  }
});

test("a reset and a pause wait for what is in flight", async () => {
  const disk = new MemoryDisk();
  const { promise, resolve } = Promise.withResolvers<void>();
  disk.gate = promise;
  const device = new BlkDevice({ disk });
  const guest = new TestGuest(device).start();
  const room = guest.room(512);
  guest.send(0, [guest.give(header(Request.IN, 5)), room, guest.room(1)]);
  let paused = false;
  const pause = guest.transport.pause().then(() => {
    paused = true;
  });
  await new Promise((done) => setImmediate(done));
  assert.equal(paused, false);
  guest.send(0, [guest.give(header(Request.IN, 6)), guest.room(512), guest.room(1)]);
  resolve();
  await pause;
  assert.equal(guest.rings[0]!.take().length, 1);
  assert.equal(guest.bytes(room)[0], 5);
  const saved = guest.transport.save();
  assert.deepEqual(disk.calls, ["read 2560"]);

  const restored = new TestGuest(new BlkDevice({ disk }, device.save()), { saved, from: guest });
  restored.transport.resume();
  await restored.used(0);
  assert.deepEqual(disk.calls, ["read 2560", "read 3072"]);

  disk.gate = new Promise((done) => setImmediate(done));
  restored.send(0, [restored.give(header(Request.IN, 7)), restored.room(512), restored.room(1)]);
  restored.status = 0;
  assert.notEqual(restored.status, 0);
  await disk.gate;
  await new Promise((done) => setImmediate(done));
  assert.equal(restored.status, 0);
});

test("state of another disk and impossible settings are refused", () => {
  const disk = new MemoryDisk();
  const saved = new BlkDevice({ disk }).save();
  assert.throws(
    () => new BlkDevice({ disk }, { ...saved, sizeBytes: 512 }),
    /sizeBytes is 512, and this disk has 131072/,
  );
  assert.throws(
    () => new BlkDevice({ disk }, { ...saved, writeback: 1 }),
    /virtio-blk: writeback is 1, not true or false/,
  );
  assert.throws(() => new BlkDevice({ disk, queues: 0 }), /0 queues of a disk/);
  assert.throws(() => new BlkDevice({ disk, serial: "ü" }), /the serial "ü" is not/);
});
