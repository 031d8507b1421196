import assert from "node:assert/strict";
import { mkdirSync, mkdtempDisposableSync, readFileSync, statSync, truncateSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { openImage } from "../open.ts";

const folder = () => mkdtempDisposableSync(join(tmpdir(), "lodge-raw-"));

/** A file of `sizeBytes` bytes, each the low byte of its offset's sector. */
function makeImage(directory: string, sizeBytes: number): string {
  const path = join(directory, "disk.raw");
  writeFileSync(
    path,
    Uint8Array.from({ length: sizeBytes }, (_, at) => at >> 9),
  );
  return path;
}

test("pieces of guest memory are read and written in order", async () => {
  using dir = folder();
  const path = makeImage(dir.path, 64 * 512);
  const disk = await openImage(path);
  assert.deepEqual([disk.sizeBytes, disk.readOnly], [64 * 512, false]);
  const memory = new WebAssembly.Memory({ initial: 1, maximum: 2, shared: true });
  const piece = (at: number, length: number) => new Uint8Array(memory.buffer, at, length);
  await disk.read(3 * 512, [piece(5000, 512), piece(100, 1024)]);
  assert.deepEqual([piece(5000, 512)[511], piece(100, 1)[0], piece(100, 1024)[1023]], [3, 4, 5]);
  await disk.write(10 * 512, [piece(100, 1024), piece(5000, 512)]);
  await disk.flush();
  const sectors = [...readFileSync(path)].filter((_, at) => at % 512 === 0).slice(8, 15);
  assert.deepEqual(sectors, [8, 9, 4, 5, 3, 13, 14]);
  await disk.close();
});

test("more pieces than the kernel takes at once", async () => {
  using dir = folder();
  const disk = await openImage(makeImage(dir.path, 64 * 512));
  const pieces = Array.from({ length: 3000 }, () => new Uint8Array(8));
  await disk.read(0, pieces);
  assert.ok(pieces.every((piece, index) => piece.every((byte) => byte === (index * 8) >> 9)));
  for (const piece of pieces) piece.fill(7);
  await disk.write(512, pieces);
  assert.ok(
    readFileSync(disk.name)
      .subarray(512, 512 + 24000)
      .every((byte) => byte === 7),
  );
  await disk.close();
});

test("zeros and discards, with and without giving the space back", async () => {
  using dir = folder();
  const path = makeImage(dir.path, 1 << 20);
  const disk = await openImage(path);
  const before = statSync(path).blocks;
  await disk.writeZeroes(0, 4096, false);
  await disk.writeZeroes(8192, 512, true);
  await disk.writeZeroes(0, 0, true);
  const content = readFileSync(path);
  assert.ok(content.subarray(0, 4096).every((byte) => byte === 0));
  assert.ok(content.subarray(8192, 8704).every((byte) => byte === 0));
  assert.deepEqual([content[4096], content[8704]], [8, 17]);
  await disk.discard(512 << 10, 256 << 10);
  assert.equal(statSync(path).size, 1 << 20);
  assert.ok(statSync(path).blocks <= before);
  await disk.close();
});

test("a file that has become shorter is an error, and so is a read-only one that is written", async () => {
  using dir = folder();
  const path = makeImage(dir.path, 64 * 512);
  const disk = await openImage(path, { readOnly: true });
  assert.equal(disk.readOnly, true);
  await assert.rejects(disk.write(0, [new Uint8Array(512)]), { code: "STORAGE_IO", message: /write failed/ });
  await assert.rejects(disk.discard(0, 512), { code: "STORAGE_IO" });
  truncateSync(path, 512);
  await assert.rejects(disk.read(512, [new Uint8Array(512)]), { code: "STORAGE_IO", message: /become shorter/ });
  await disk.close();
});

test("what is no raw disk is refused", async () => {
  using dir = folder();
  const path = makeImage(dir.path, 512);
  truncateSync(path, 513);
  await assert.rejects(openImage(path), { code: "STORAGE_OPEN", message: /has 513 bytes/ });
  truncateSync(path, 0);
  await assert.rejects(openImage(path), { code: "STORAGE_OPEN", message: /has 0 bytes/ });
  await assert.rejects(openImage(join(dir.path, "none")), {
    code: "STORAGE_OPEN",
    message: /none cannot be opened/,
  });
  mkdirSync(join(dir.path, "folder"));
  await assert.rejects(openImage(join(dir.path, "folder"), { readOnly: true }), /neither a regular file nor/);
});
