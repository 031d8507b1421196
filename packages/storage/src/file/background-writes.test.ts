/** Writes beside the thread, where the kernel has rings for us; without one the same requests go the usual way. */

import assert from "node:assert/strict";
import { closeSync, mkdtempDisposableSync, openSync, readFileSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { HostFile } from "./host-file.ts";
import { Transfers } from "./transfers.ts";

const PIECE = 192 << 10;

test("writes in the background end in the file, more of them at once than a ring takes, and short ones between them", async () => {
  using folder = mkdtempDisposableSync(join(tmpdir(), "lodge-background-"));
  const path = join(folder.path, "file");
  const file = await HostFile.open(path, { create: true, background: true });
  const expected = Buffer.alloc(40 * PIECE + 512);
  const writes: Promise<void>[] = [];
  for (let piece = 39; piece >= 0; piece--) {
    const bytes = expected.subarray(piece * PIECE, (piece + 1) * PIECE).fill(piece + 1);
    // In a vector, which a ring is not asked for, every fourth time.
    const pieces = piece % 4 === 0 ? [bytes.subarray(0, 1000), bytes.subarray(1000)] : [bytes];
    writes.push(file.write(piece * PIECE, pieces));
  }
  const last = expected.subarray(40 * PIECE).fill(0xee);
  writes.push(file.write(40 * PIECE, [last]));
  await Promise.all(writes);
  assert.equal(file.sizeBytes, expected.length);
  const read = Buffer.alloc(PIECE);
  await file.read(7 * PIECE, [read]);
  assert.deepEqual(read, expected.subarray(7 * PIECE, 8 * PIECE));
  await file.flush();
  await file.close();
  assert.deepEqual(readFileSync(path), expected);
});

test("what the kernel refuses in the background fails as everywhere", async () => {
  using folder = mkdtempDisposableSync(join(tmpdir(), "lodge-background-"));
  const path = join(folder.path, "file");
  writeFileSync(path, "as it was");
  const fd = openSync(path, "r");
  const transfers = new Transfers(fd, true);
  try {
    await assert.rejects(async () => transfers.write(0, [Buffer.alloc(PIECE)]), { code: "EBADF", syscall: "write" });
  } finally {
    transfers.close();
    closeSync(fd);
  }
  assert.equal(readFileSync(path, "utf8"), "as it was");
});
