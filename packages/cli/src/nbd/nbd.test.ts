/** `lodge nbd` with libnbd's and QEMU's tools as its clients. */

import assert from "node:assert/strict";
import { execFile, spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import { existsSync, mkdtempDisposableSync, readFileSync, truncateSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { test } from "node:test";
import { promisify } from "node:util";

const bin = join(import.meta.dirname, "../../bin/lodge.js");
const absent = ["nbdinfo", "nbdcopy", "qemu-io"].filter((name) => spawnSync(name, ["--version"]).error !== undefined);
const skip = absent.length > 0 && `${absent.join(", ")}: not installed`;
const MIB = 1 << 20;
const execute = promisify(execFile);
const folder = () => mkdtempDisposableSync(join(tmpdir(), "lodge-cli-nbd-"));

function image(directory: string): string {
  const path = join(directory, "disk.raw");
  writeFileSync(path, Buffer.alloc(MIB, 7));
  truncateSync(path, 4 * MIB);
  return path;
}

/** A server, when it says where it is. */
async function lodgeNbd(...args: string[]) {
  const child = spawn(process.execPath, [bin, "nbd", ...args], { stdio: ["ignore", "pipe", "pipe"] });
  let said = "";
  child.stderr.setEncoding("utf8").on("data", (text) => {
    said += text;
  });
  const exited = once(child, "exit").then(([status]) => status as number | null);
  const line = once(createInterface(child.stdout), "line").then(([line]) => line as string);
  const uri = await Promise.race([line, exited.then(() => Promise.reject(new Error(said)))]);
  return {
    uri,
    exited,
    said: () => said,
    kill: (signal: NodeJS.Signals) => child.kill(signal),
    async [Symbol.asyncDispose]() {
      child.kill("SIGKILL");
      await exited;
    },
  };
}

test("the last client's end is the server's, and what it wrote is in the image", { skip }, async () => {
  using dir = folder();
  const path = image(dir.path);
  await using server = await lodgeNbd("--port", "0", "--export-name", "a disk", path);
  assert.match(server.uri, /^nbd:\/\/127\.0\.0\.1:\d+\/a%20disk$/);
  await execute("qemu-io", ["-f", "raw", server.uri, "-c", "read -P 7 0 1M", "-c", "write -P 9 2M 64k"]);
  assert.equal(await server.exited, 0);
  assert.ok(
    readFileSync(path)
      .subarray(2 * MIB, 2 * MIB + 65536)
      .every((byte) => byte === 9),
  );
});

test("persistent, shared, at a Unix socket, until a signal; read-only", { skip }, async () => {
  using dir = folder();
  const path = image(dir.path);
  const socket = join(dir.path, "socket");
  await using server = await lodgeNbd("-t", "-r", "-e", "8", "-k", socket, "-D", "seven", "-A", path);
  assert.equal(server.uri, `nbd+unix:///?socket=${socket}`);
  const info = JSON.parse((await execute("nbdinfo", ["--json", server.uri])).stdout).exports[0];
  assert.deepEqual([info.description, info.is_read_only, info.can_multi_conn], ["seven", true, true]);
  assert.deepEqual(info.contexts, ["base:allocation", "qemu:allocation-depth"]);
  await execute("nbdcopy", [server.uri, join(dir.path, "copy")]);
  assert.ok(readFileSync(join(dir.path, "copy")).equals(readFileSync(path)));
  // Read-only servers share an image; so does another reader.
  await using second = await lodgeNbd("-r", "-p", "0", path);
  assert.match(second.uri, /^nbd:/);
  server.kill("SIGTERM");
  assert.equal(await server.exited, 143);
  assert.ok(!existsSync(socket), "the socket is gone");
  assert.equal(server.said(), "");
});

test("a server's disk is another's image", { skip }, async () => {
  using dir = folder();
  const path = image(dir.path);
  await using server = await lodgeNbd("-p", "0", path);
  await using relay = await lodgeNbd("-p", "0", server.uri);
  await execute("qemu-io", ["-f", "raw", relay.uri, "-c", "read -P 7 0 1M", "-c", "write -P 5 3M 1M"]);
  assert.equal(await relay.exited, 0);
  assert.equal(await server.exited, 0);
  assert.ok(
    readFileSync(path)
      .subarray(3 * MIB)
      .every((byte) => byte === 5),
  );
});

test("a dirty bitmap, as qemu-nbd tells it", { skip }, async () => {
  using dir = folder();
  const path = join(dir.path, "disk.qcow2");
  await execute("qemu-img", ["create", "-f", "qcow2", path, "256M"]);
  await execute("qemu-img", ["bitmap", "--add", "-g", "4096", path, "b0"]);
  const writes = ["write 0 4k", "write 1M 5M", "write 77M 100k", "write 255M 1M"];
  await execute("qemu-io", ["-f", "qcow2", path, ...writes.flatMap((text) => ["-c", text])]);
  const map = ["--json", "--map=qemu:dirty-bitmap:b0"];
  await using server = await lodgeNbd("-r", "-p", "0", "-B", "b0", path);
  const ours = JSON.parse((await execute("nbdinfo", [...map, server.uri])).stdout);
  const socket = join(dir.path, "socket");
  const theirs = spawn("qemu-nbd", ["-r", "-k", socket, "-f", "qcow2", "-B", "b0", "--fork", path], {
    stdio: "ignore",
  });
  await once(theirs, "exit");
  const expected = JSON.parse((await execute("nbdinfo", [...map, `nbd+unix:///?socket=${socket}`])).stdout);
  const essence = (extents: Record<string, number>[]) =>
    extents.map(({ offset, length, type }) => [offset, length, type]);
  assert.deepEqual(essence(ours), essence(expected));
  assert.ok(ours.length >= 7);
  for (const [args, message] of [
    [["-B", "b0", path], /read-only/],
    [["-r", "-B", "none", path], /has no bitmap "none"/],
    [["-r", "-B", "b0", image(dir.path)], /a raw image has no bitmaps/],
  ] as const) {
    const { status, stderr } = spawnSync(process.execPath, [bin, "nbd", ...args], { encoding: "utf8" });
    assert.equal(status, 2, stderr);
    assert.match(stderr, message);
  }
});

test("a shared key", { skip }, async () => {
  using dir = folder();
  const keys = join(dir.path, "keys.psk");
  writeFileSync(keys, `alice:${"12".repeat(32)}\n`);
  await using server = await lodgeNbd("-p", "0", "--tls-psk", keys, image(dir.path));
  assert.match(server.uri, /^nbds:/);
  const uri = `${server.uri.replace("//", "//alice@")}?tls-psk-file=${keys}`;
  assert.equal((await execute("nbdinfo", ["--size", uri])).stdout, `${4 * MIB}\n`);
  assert.equal(await server.exited, 0);
});

for (const [args, message] of [
  [["none.raw"], /none\.raw cannot be opened: ENOENT/],
  [["--port", "70000", "disk"], /--port is a whole number from 0 to 65535/],
  [["--socket", "s", "--port", "1", "disk"], /--socket stands alone/],
  [["--socket", "x".repeat(108), "disk"], /107 bytes at most/],
  [["--tls-psk", "a", "--tls-certificates", "b", "disk"], /one of them/],
  [["--tls-verify-peer", "disk"], /goes with --tls-certificates/],
  [["nbd://localhost:1/"], /nbd:\/\/localhost:1\/ cannot be opened: .*ECONNREFUSED/],
] as const) {
  test(`lodge nbd ${args.map((arg) => arg.slice(0, 30)).join(" ")}: one line and status 2`, () => {
    const { status, stdout, stderr } = spawnSync(process.execPath, [bin, "nbd", ...args], { encoding: "utf8" });
    assert.deepEqual([status, stdout], [2, ""], stderr);
    assert.match(stderr, /^lodge: .*\n$/);
    assert.match(stderr, message);
  });
}
