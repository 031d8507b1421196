/** The client with QEMU's server, and with servers that go away. */

import assert from "node:assert/strict";
import { once } from "node:events";
import { mkdtempDisposableSync, readFileSync, truncateSync, writeFileSync } from "node:fs";
import { connect, createServer, type Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { randomBytes, randomNumbers } from "../../../testing/bytes.ts";
import { MemoryStore } from "../../../testing/memory-store.ts";
import { missing, qemuNbd, run } from "../../../testing/peers.ts";
import { copyImage } from "../../operations/copy.ts";
import { RawImage } from "../../raw/raw-image.ts";
import { baseAllocation } from "../server/contexts.ts";
import { NbdServer } from "../server/server.ts";
import { NbdStore } from "./nbd-store.ts";

const skip = missing("qemu-nbd", "qemu-img");
const MIB = 1 << 20;
const folder = () => mkdtempDisposableSync(join(tmpdir(), "lodge-nbd-"));

function image(directory: string, sizeBytes: number, content?: Buffer): string {
  const path = join(directory, "disk.raw");
  writeFileSync(path, content ?? "");
  truncateSync(path, sizeBytes);
  return path;
}

test("qemu-nbd's disk: reads into guest memory, writes, zeros, discards, and what is allocated", { skip }, async () => {
  using dir = folder();
  const path = image(dir.path, 64 * MIB, randomBytes(MIB, 1));
  const socket = join(dir.path, "socket");
  await using _peer = await qemuNbd(socket, "--format=raw", "--discard=unmap", path);
  const disk = await NbdStore.open(`nbd+unix:///?socket=${socket}`);
  assert.deepEqual([disk.sizeBytes, disk.readOnly], [64 * MIB, false]);

  const memory = new WebAssembly.Memory({ initial: 64, maximum: 64, shared: true });
  const pieces = [new Uint8Array(memory.buffer, 5000, 100_000), new Uint8Array(memory.buffer, 200_001, 4099)];
  await disk.read(777, pieces);
  const expected = readFileSync(path);
  assert.deepEqual(Buffer.concat(pieces), expected.subarray(777, 777 + 104_099));

  await disk.write(20 * MIB + 3, pieces);
  expected.set(Buffer.concat(pieces), 20 * MIB + 3);
  // Longer than one request may be.
  const long = randomBytes(33 * MIB, 9);
  await disk.write(30 * MIB, [long]);
  expected.set(long, 30 * MIB);
  await disk.writeZeroes(20 * MIB, 65536, true);
  expected.fill(0, 20 * MIB, 20 * MIB + 65536);
  await disk.discard(31 * MIB, MIB);
  expected.fill(0, 31 * MIB, 32 * MIB);
  await disk.flush();
  const whole = Buffer.alloc(64 * MIB);
  await disk.read(0, [whole]);
  assert.ok(whole.equals(expected));
  assert.ok(readFileSync(path).equals(expected));

  const status = await disk.status(2 * MIB, 10 * MIB);
  assert.deepEqual([status.length, status.zero, status.data], [10 * MIB, true, false]);
  assert.deepEqual((await disk.status(0, 64 * MIB)).data, true);
  // Behind the end there are zeros to read and nothing to write.
  const tail = Buffer.alloc(1024, 1);
  await disk.read(64 * MIB - 512, [tail]);
  assert.ok(tail.subarray(512).every((byte) => byte === 0) && tail.subarray(0, 512).equals(expected.subarray(-512)));
  await assert.rejects(disk.write(64 * MIB - 512, [tail]), { code: "STORAGE_IO", message: /cannot grow/ });
  await assert.rejects(disk.resize(MIB), { code: "STORAGE_IO", message: /its server's affair/ });
  await disk.close();
  await assert.rejects(disk.read(0, [tail]), { code: "STORAGE_IO", message: /closed/ });
});

test("hundreds of requests under way at once", { skip }, async () => {
  using dir = folder();
  const path = image(dir.path, 16 * MIB, randomBytes(16 * MIB, 4));
  const socket = join(dir.path, "socket");
  await using _peer = await qemuNbd(socket, "--format=raw", path);
  const disk = await NbdStore.open(`nbd+unix:///?socket=${socket}`);
  const expected = readFileSync(path);
  const random = randomNumbers(7);
  const reads = Array.from({ length: 400 }, async () => {
    const offset = random(15 * MIB);
    const into = Buffer.alloc(1 + random(100_000));
    await disk.read(offset, [into]);
    return into.equals(expected.subarray(offset, offset + into.length));
  });
  assert.ok((await Promise.all(reads)).every((right) => right));
  await disk.close();
});

/** Random reads beside each other, of a store that begins with these bytes. */
async function readsAreRight(disk: NbdStore, expected: Uint8Array, count: number): Promise<void> {
  const random = randomNumbers(count);
  const reads = Array.from({ length: count }, async () => {
    const offset = random(expected.length - 100_000);
    const into = Buffer.alloc(1 + random(100_000));
    await disk.read(offset, [into]);
    assert.ok(into.equals(expected.subarray(offset, offset + into.length)));
  });
  await Promise.all(reads);
}

test("under load a disk has the connections that its address allows, and one without", async () => {
  using dir = folder();
  const path = join(dir.path, "socket");
  const store = MemoryStore.of(randomBytes(4 * MIB, 5));
  const offered = { disk: store, readOnly: false, contexts: [baseAllocation(store)] };
  const counts: number[] = [];
  const third = Promise.withResolvers<void>();
  const exports = new Map([["", offered]]);
  await using _server = await NbdServer.start({
    exports,
    listen: { path },
    onClients: (count) => {
      counts.push(count);
      if (count === 3) third.resolve();
    },
  });
  const one = await NbdStore.open(`nbd+unix:///?socket=${path}`);
  await readsAreRight(one, store.bytes, 100);
  assert.deepEqual(counts, [1]);
  const several = await NbdStore.open(`nbd+unix:///?socket=${path}&connections=2`);
  await several.read(0, [Buffer.alloc(512)]);
  assert.deepEqual(counts, [1, 2], "one request is no load");
  while (counts.length < 3) await readsAreRight(several, store.bytes, 50);
  await third.promise;
  await readsAreRight(several, store.bytes, 400);
  assert.deepEqual(counts, [1, 2, 3], "and no more than two for this one");
  // What was written by one is seen by all, as soon as it has ended.
  const bytes = randomBytes(MIB, 8);
  await Promise.all(
    Array.from({ length: 64 }, (_, index) =>
      several.write(index << 14, [bytes.subarray(index << 14, (index + 1) << 14)]),
    ),
  );
  await several.flush();
  assert.ok(store.bytes.subarray(0, MIB).equals(bytes));
  await several.close();
  await one.close();
});

test("a connection that breaks is not missed, nor is one that the server has no place for", async () => {
  using dir = folder();
  const path = join(dir.path, "socket");
  const store = MemoryStore.of(randomBytes(4 * MIB, 5));
  const offered = { disk: store, readOnly: false, contexts: [] };
  await using _server = await NbdServer.start({ exports: new Map([["", offered]]), listen: { path }, maxClients: 2 });
  // Between the two stands one that cuts the second line under load, and only then.
  const proxyPath = join(dir.path, "proxy");
  const came: Socket[] = [];
  const broken = Promise.withResolvers<void>();
  const proxy = createServer((client) => {
    came.push(client);
    const upstream = connect(path);
    client.on("error", () => {}).pipe(upstream);
    upstream.on("error", () => {}).pipe(client);
    client.on("close", () => upstream.destroy());
    if (came.length !== 2) return;
    client.on("data", (data) => {
      if (data.readUInt32BE(0) !== 0x25609513) return;
      client.destroy();
      broken.resolve();
    });
  }).listen(proxyPath);
  await using _proxy = {
    async [Symbol.asyncDispose]() {
      for (const client of came) client.destroy();
      proxy.close();
      await once(proxy, "close");
    },
  };
  await once(proxy, "listening");
  const disk = await NbdStore.open(`nbd+unix:///?socket=${proxyPath}&connections=4`);
  let over = false;
  void broken.promise.then(() => {
    over = true;
  });
  while (!over) await readsAreRight(disk, store.bytes, 100);
  await readsAreRight(disk, store.bytes, 400);
  // The next one had the second place at the server, and one more waits for a place.
  while (came.length < 4) await readsAreRight(disk, store.bytes, 100);
  const ended = Promise.all(came.map((client) => client.destroyed || once(client, "close")));
  await disk.close();
  await ended;
});

test("what a server refuses is said in one line", { skip }, async () => {
  using dir = folder();
  const path = image(dir.path, MIB);
  const socket = join(dir.path, "socket");
  await using _peer = await qemuNbd(socket, "--format=raw", "--read-only", "--export-name=disk", path);
  const refusals: [string, RegExp][] = [
    [`nbd+unix:///none?socket=${socket}`, /the server refuses export "none"/],
    [`nbd+unix:///disk?socket=${socket}`, /is read-only: open it so/],
    [`nbd+unix:///disk?socket=${socket}x`, /cannot be opened: .*ENOENT/],
    ["nbd://127.0.0.1:1/", /ECONNREFUSED/],
  ];
  for (const [uri, message] of refusals) {
    await assert.rejects(NbdStore.open(uri), { code: "STORAGE_OPEN", message });
  }
  const disk = await NbdStore.open(`nbd+unix:///disk?socket=${socket}`, { readOnly: true });
  await assert.rejects(disk.write(0, [Buffer.alloc(512)]), { code: "STORAGE_IO", message: /read-only/ });
  await disk.close();
});

/** A server of ours with a disk in memory. */
async function serve(path: string, store: MemoryStore): Promise<NbdServer> {
  const offered = { disk: store, readOnly: false, contexts: [baseAllocation(store)] };
  return await NbdServer.start({ exports: new Map([["", offered]]), listen: { path } });
}

test("requests under way when the server goes are answered by the one that comes after it", async () => {
  using dir = folder();
  const path = join(dir.path, "socket");
  const store = MemoryStore.of(randomBytes(MIB, 3));
  const stuck = Promise.withResolvers<void>();
  const arrived = Promise.withResolvers<void>();
  const hanging = MemoryStore.of(store.bytes);
  hanging.read = async () => {
    arrived.resolve();
    await stuck.promise;
  };
  const first = await serve(path, hanging);
  const disk = await NbdStore.open(`nbd+unix:///?socket=${path}`);
  const into = Buffer.alloc(4096);
  const read = disk.read(8192, [into]);
  await arrived.promise;
  const closed = first.close();
  stuck.resolve();
  await closed;
  await using _second = await serve(path, store);
  await read;
  assert.ok(into.equals(store.bytes.subarray(8192, 8192 + 4096)));
  await disk.close();
});

test("a server that does not come back fails its requests after the time that it was given", async () => {
  using dir = folder();
  const path = join(dir.path, "socket");
  const server = await serve(path, new MemoryStore(MIB));
  const disk = await NbdStore.open(`nbd+unix:///?socket=${path}`, { reconnectMs: 200 });
  await server.close();
  const requests = Array.from({ length: 10 }, () => disk.read(0, [Buffer.alloc(512)]));
  for (const outcome of await Promise.allSettled(requests)) {
    assert.match(String((outcome as PromiseRejectedResult).reason), /the server is gone/);
  }
  // From then on one try has to do, and it is enough when the server is there.
  await assert.rejects(disk.flush(), { code: "STORAGE_IO", message: /the server is gone/ });
  await using _again = await serve(path, new MemoryStore(MIB));
  await disk.read(0, [Buffer.alloc(512)]);
  await disk.close();
});

test("another disk in the place of the first is not written", async () => {
  using dir = folder();
  const path = join(dir.path, "socket");
  const server = await serve(path, new MemoryStore(MIB));
  const disk = await NbdStore.open(`nbd+unix:///?socket=${path}`);
  await server.close();
  const other = new MemoryStore(2 * MIB);
  await using _other = await serve(path, other);
  await assert.rejects(disk.write(0, [Buffer.alloc(512, 1)]), { code: "STORAGE_IO", message: /another disk/ });
  assert.ok(other.bytes.every((byte) => byte === 0));
  await disk.close();
});

test("a request that breaks every connection is given up", async () => {
  using dir = folder();
  const path = join(dir.path, "socket");
  const store = new MemoryStore(MIB);
  await using server = await serve(path, store);
  const proxyPath = join(dir.path, "proxy");
  let connections = 0;
  // Between the two stands one that cuts the line at the first request.
  const proxy = createServer((client) => {
    connections += 1;
    const upstream = connect(path);
    client.on("error", () => {}).pipe(upstream);
    upstream.on("error", () => {}).pipe(client);
    client.on("data", (bytes) => {
      if (bytes.readUInt32BE(0) === 0x25609513) client.destroy();
    });
    client.on("close", () => upstream.destroy());
  }).listen(proxyPath);
  await once(proxy, "listening");
  const disk = await NbdStore.open(`nbd+unix:///?socket=${proxyPath}`);
  await assert.rejects(disk.read(0, [Buffer.alloc(512)]), { code: "STORAGE_IO" });
  assert.equal(connections, 5);
  await disk.close();
  proxy.close();
  await once(proxy, "close");
  assert.ok(server);
});

test("a server that takes whole sectors only gets whole sectors", async () => {
  using dir = folder();
  const path = join(dir.path, "socket");
  const store = MemoryStore.of(randomBytes(MIB, 3));
  const expected = Buffer.from(store.bytes);
  const requests: [number, number][] = [];
  for (const name of ["read", "write"] as const) {
    const whole = store[name].bind(store);
    store[name] = (offset, pieces) => {
      requests.push([offset, pieces.reduce((sum, { length }) => sum + length, 0)]);
      return whole(offset, pieces);
    };
  }
  const offered = { disk: store, readOnly: false, contexts: [], minimumBytes: 4096 };
  await using _server = await NbdServer.start({ exports: new Map([["", offered]]), listen: { path } });
  const disk = await NbdStore.open(`nbd+unix:///?socket=${path}`);
  const random = randomNumbers(11);
  const writes = Array.from({ length: 200 }, (_, index) => {
    const offset = index * 5000 + random(100);
    const bytes = randomBytes(1 + random(4800), index);
    expected.set(bytes, offset);
    return disk.write(offset, [bytes.subarray(0, 1), bytes.subarray(1)]);
  });
  await Promise.all(writes);
  await disk.writeZeroes(100, 9000, true);
  expected.fill(0, 100, 9100);
  assert.ok(store.bytes.equals(expected));
  const into = Buffer.alloc(5000);
  await disk.read(4095, [into]);
  assert.ok(into.equals(expected.subarray(4095, 9095)));
  assert.ok(requests.every(([offset, length]) => offset % 4096 === 0 && length % 4096 === 0));
  await disk.close();
});

test("a server is asked for zeros that it need not write, and a copy begins with them", { skip }, async () => {
  using dir = folder();
  const [target, path] = [join(dir.path, "target.raw"), join(dir.path, "socket")];
  const source = new MemoryStore(8 * MIB);
  await source.write(MIB, [randomBytes(MIB, 8)]);
  // What was there before is no zeros.
  writeFileSync(target, randomBytes(8 * MIB, 9));
  {
    await using _peer = await qemuNbd(path, "--format=raw", "--discard=unmap", target);
    const disk = await NbdStore.open(`nbd+unix:///?socket=${path}`);
    await copyImage(new RawImage(source), new RawImage(disk), { overZeros: true, mayZeroFirst: true });
    await disk.flush();
    await disk.close();
  }
  assert.ok(readFileSync(target).equals(source.bytes));
  // Our server, which tells what it is asked, and may refuse it.
  for (const refuses of [false, true]) {
    const store = MemoryStore.of(randomBytes(8 * MIB, 10));
    store.zeroesSlowly = refuses;
    const socket = join(dir.path, `ours-${refuses}`);
    await using _server = await serve(socket, store);
    const disk = await NbdStore.open(`nbd+unix:///?socket=${socket}`);
    if (refuses) await assert.rejects(disk.writeZeroes(0, 4096, true, true), { code: "STORAGE_IO" });
    await copyImage(new RawImage(source), new RawImage(disk), { overZeros: true, mayZeroFirst: true });
    assert.ok(store.bytes.equals(source.bytes));
    assert.equal(store.fastZeroes, refuses ? 0 : 1);
    await disk.close();
  }
});

test("qemu-img finds the copy that we wrote over NBD identical", { skip }, async () => {
  using dir = folder();
  const source = join(dir.path, "source.raw");
  writeFileSync(source, randomBytes(4 * MIB, 6));
  const target = join(dir.path, "target.qcow2");
  await run("qemu-img", "create", "-f", "qcow2", target, "4M");
  {
    const socket = join(dir.path, "socket");
    await using _peer = await qemuNbd(socket, "--format=qcow2", target);
    const disk = await NbdStore.open(`nbd+unix:///?socket=${socket}`);
    await disk.write(0, [readFileSync(source)]);
    await disk.flush();
    await disk.close();
  }
  assert.match(await run("qemu-img", "compare", "-f", "raw", "-F", "qcow2", source, target), /identical/);
  await run("qemu-img", "check", target);
});
