import assert from "node:assert/strict";
import { spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import { mkdtempDisposableSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { openImage } from "../open.ts";
import { isImageInUse } from "./locks.ts";

const qemu = spawnSync("qemu-io", ["--version"]).status === 0;
const skip = qemu ? false : "qemu-io (Debian's qemu-utils) is not installed";

const folder = () => mkdtempDisposableSync(join(tmpdir(), "lodge-locks-"));

test("a writer is alone, readers are not", async () => {
  using dir = folder();
  const path = join(dir.path, "disk");
  writeFileSync(path, new Uint8Array(65536));
  assert.equal(await isImageInUse(path), false);
  const writer = await openImage(path);
  assert.equal(await isImageInUse(path), true);
  const held = { code: "STORAGE_OPEN", message: /disk is in use by another process/ };
  await assert.rejects(openImage(path), held);
  await assert.rejects(openImage(path, { readOnly: true }), held);
  const peeper = await openImage(path, { readOnly: true, lock: false });
  await peeper.close();
  await writer.close();
  const readers = [await openImage(path, { readOnly: true }), await openImage(path, { readOnly: true })];
  await assert.rejects(openImage(path), held);
  assert.equal(await isImageInUse(path), true);
  for (const reader of readers) await reader.close();
  assert.equal(await isImageInUse(path), false);
});

test("QEMU is kept out of what we write, and we of what it writes", { skip }, async () => {
  using dir = folder();
  const path = join(dir.path, "disk");
  writeFileSync(path, new Uint8Array(65536));
  const disk = await openImage(path);
  const refused = spawnSync("qemu-io", ["-f", "raw", "-c", "write 0 512", path], { encoding: "utf8" });
  assert.match(refused.stderr, /Failed to get (shared )?"write" lock/);
  await disk.close();

  const theirs = spawn("qemu-io", ["-f", "raw", path], { stdio: ["pipe", "pipe", "ignore"] });
  const closed = once(theirs, "close");
  // The prompt comes when the image is open.
  await once(theirs.stdout, "data");
  await assert.rejects(openImage(path), /in use by another process/);
  assert.equal(await isImageInUse(path), true);
  theirs.stdin.end("quit\n");
  await closed;
  const again = await openImage(path);
  await again.close();
});
