/** The server as its peers see it: libnbd's tools and QEMU's. */

import assert from "node:assert/strict";
import { mkdtempDisposableSync, readFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { randomBytes } from "../../../testing/bytes.ts";
import { MemoryStore } from "../../../testing/memory-store.ts";
import { missing, run } from "../../../testing/peers.ts";
import { baseAllocation } from "./contexts.ts";
import { NbdServer, type NbdServerOptions } from "./server.ts";

const skip = missing("nbdinfo", "nbdcopy", "qemu-img", "qemu-io");
const MIB = 1 << 20;

/** 64 MiB with data in three places. */
async function sparse(): Promise<MemoryStore> {
  const store = new MemoryStore(64 * MIB);
  await store.write(0, [randomBytes(65536, 1)]);
  await store.write(10 * MIB, [randomBytes(3 * MIB, 2)]);
  await store.write(64 * MIB - 4096, [randomBytes(4096, 3)]);
  return store;
}

async function serve(store: MemoryStore, path: string, options: Partial<NbdServerOptions> = {}) {
  const offered = { disk: store, readOnly: store.readOnly, description: "a test's", contexts: [baseAllocation(store)] };
  const server = await NbdServer.start({ exports: new Map([["disk", offered]]), listen: { path }, ...options });
  return Object.assign(server, { uri: `nbd+unix:///disk?socket=${path}` });
}

test("nbdinfo sees what is offered", { skip }, async () => {
  using dir = mkdtempDisposableSync(join(tmpdir(), "lodge-nbd-"));
  await using server = await serve(await sparse(), join(dir.path, "socket"));
  const { exports, protocol, structured } = JSON.parse(await run("nbdinfo", "--json", server.uri));
  assert.deepEqual([protocol, structured], ["newstyle-fixed", true]);
  const can = Object.keys(exports[0]).filter((name) => /^can_/.test(name) && exports[0][name]);
  assert.deepEqual(can, [
    "can_cache",
    "can_df",
    "can_fast_zero",
    "can_flush",
    "can_fua",
    "can_multi_conn",
    "can_trim",
    "can_zero",
  ]);
  assert.deepEqual(
    [exports[0]["export-name"], exports[0].description, exports[0]["export-size"], exports[0].contexts],
    ["disk", "a test's", 64 * MIB, ["base:allocation"]],
  );
  const list = JSON.parse(await run("nbdinfo", "--json", "--list", server.uri));
  assert.deepEqual(list.exports.length, 1);
  const map = JSON.parse(await run("nbdinfo", "--map", "--json", server.uri));
  assert.deepEqual(
    map.map(({ offset, length, type }: Record<string, number>) => [offset, length, type]),
    [
      [0, 65536, 0],
      [65536, 10 * MIB - 65536, 3],
      [10 * MIB, 3 * MIB, 0],
      [13 * MIB, 51 * MIB - 4096, 3],
      [64 * MIB - 4096, 4096, 0],
    ],
  );
});

test("nbdcopy takes the content out by several connections, and puts it in", { skip }, async () => {
  using dir = mkdtempDisposableSync(join(tmpdir(), "lodge-nbd-"));
  const store = await sparse();
  await using server = await serve(store, join(dir.path, "socket"));
  let most = 0;
  const target = new MemoryStore(64 * MIB);
  await using other = await serve(target, join(dir.path, "other"), {
    onClients: (count) => {
      most = Math.max(most, count);
    },
  });
  await run("nbdcopy", "--connections=4", "--threads=4", server.uri, join(dir.path, "copy"));
  assert.ok(readFileSync(join(dir.path, "copy")).equals(store.bytes));
  await run("nbdcopy", "--connections=4", "--threads=4", "--flush", join(dir.path, "copy"), other.uri);
  assert.ok(target.bytes.equals(store.bytes));
  assert.equal(most, 4);
  assert.ok(target.flushes > 0);
  assert.equal((await target.status(65536, 64 * MIB - 65536)).length, 10 * MIB - 65536, "the holes are still holes");
});

test("qemu-io writes, zeroes, discards and flushes", { skip }, async () => {
  using dir = mkdtempDisposableSync(join(tmpdir(), "lodge-nbd-"));
  const store = await sparse();
  const expected = Buffer.from(store.bytes);
  await using server = await serve(store, join(dir.path, "socket"));
  const commands = [
    "write -P 5 1000 5000",
    "write -z 11M 1M",
    "write -zu 12M 64k",
    "discard 10M 64k",
    "write -f -P 3 9 1",
  ];
  // qemu-io itself checks the patterns that it reads.
  const checks = ["read -P 5 1000 5000", "read -P 0 11M 1M", "read -P 0 10M 64k", "flush"];
  const args = [...commands, ...checks].flatMap((command) => ["-c", command]);
  const said = await run("qemu-io", "-f", "raw", server.uri, ...args);
  assert.doesNotMatch(said, /failed|error/i);
  expected
    .fill(5, 1000, 6000)
    .fill(0, 11 * MIB, 12 * MIB + 65536)
    .fill(0, 10 * MIB, 10 * MIB + 65536)
    .fill(3, 9, 10);
  assert.ok(store.bytes.equals(expected));
  assert.ok(store.flushes >= 2);
  const { data, zero } = await store.status(11 * MIB, 4096);
  assert.deepEqual([data, zero], [true, false], "-z keeps the space");
  assert.equal((await store.status(12 * MIB, 4096)).data, false, "-zu gives it back");
});

test("zeros that shall not be written are made, or refused", { skip }, async () => {
  using dir = mkdtempDisposableSync(join(tmpdir(), "lodge-nbd-"));
  const store = await sparse();
  await using server = await serve(store, join(dir.path, "socket"));
  // -n of qemu-io is NBD_CMD_FLAG_FAST_ZERO.
  const zero = () => run("qemu-io", "-f", "raw", server.uri, "-c", "write -zn 10M 1M");
  assert.match(await zero(), /wrote 1048576\/1048576/);
  assert.deepEqual([store.fastZeroes, store.bytes[10 * MIB], store.bytes[11 * MIB] !== 0], [1, 0, true]);
  store.zeroesSlowly = true;
  store.bytes.fill(7, 10 * MIB, 11 * MIB);
  await assert.rejects(zero(), ({ stdout, stderr }: { stdout: string; stderr: string }) =>
    /Operation not supported/.test(stdout + stderr),
  );
  assert.equal(store.bytes[10 * MIB], 7);
});

test("what cannot be done is an error of its request", { skip }, async () => {
  using dir = mkdtempDisposableSync(join(tmpdir(), "lodge-nbd-"));
  const store = await sparse();
  await using server = await serve(store, join(dir.path, "socket"));
  store.failure = Object.assign(new Error("the disk is full"), { code: "ENOSPC" });
  const failed = await run("qemu-io", "-f", "raw", server.uri, "-c", "read 0 512", "-c", "write 0 512").catch(
    (error) => error.stdout + error.stderr,
  );
  assert.match(failed, /No space left on device/);
  store.failure = undefined;
  const fixed = new MemoryStore(MIB, { readOnly: true });
  await using other = await serve(fixed, join(dir.path, "other"));
  await assert.rejects(run("qemu-io", "-f", "raw", other.uri, "-c", "write 0 512"), /read-only|Permission/i);
});

test("a place that is taken is waited for", { skip }, async () => {
  using dir = mkdtempDisposableSync(join(tmpdir(), "lodge-nbd-"));
  const store = await sparse();
  let most = 0;
  await using server = await serve(store, join(dir.path, "socket"), {
    maxClients: 1,
    onClients: (count) => {
      most = Math.max(most, count);
    },
  });
  const clients = Array.from({ length: 5 }, () => run("nbdinfo", "--size", server.uri));
  for (const size of await Promise.all(clients)) assert.equal(size, `${64 * MIB}\n`);
  assert.equal(most, 1);
});

test("TCP, any free port, and a place that is not there", { skip }, async () => {
  using dir = mkdtempDisposableSync(join(tmpdir(), "lodge-nbd-"));
  const store = await sparse();
  const listen = { port: 0, host: "127.0.0.1" };
  await using server = await serve(store, "", { listen });
  assert.equal(await run("nbdinfo", "--size", `nbd://127.0.0.1:${server.port}/disk`), `${64 * MIB}\n`);
  await assert.rejects(run("nbdinfo", `nbd://127.0.0.1:${server.port}/none`), /no export "none"|ENOENT|No such file/);
  await assert.rejects(serve(store, join(dir.path, "none/socket")), { code: "STORAGE_OPEN", message: /cannot listen/ });
});
