/** Writes by a ring, with real files. */

import assert from "node:assert/strict";
import { closeSync, mkdtempDisposableSync, openSync, readFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { addressOf, Errno, IoUring } from "./index.ts";

const CAPACITY = 4;
const PIECE = 64 << 10;

/** Containers may forbid rings; then whoever wants one does without. */
function ringOrSkip(t: { skip(why: string): void }): IoUring | undefined {
  const ring = IoUring.tryOpen(CAPACITY);
  if (ring === undefined) t.skip("this kernel has no io_uring for us");
  return ring;
}

test("a ring writes what it is asked to, full again and again", (t) => {
  using ring = ringOrSkip(t);
  if (ring === undefined) return;
  using folder = mkdtempDisposableSync(join(tmpdir(), "lodge-ring-"));
  const path = join(folder.path, "file");
  const fd = openSync(path, "w");
  const rooms = Array.from({ length: CAPACITY }, () => Buffer.allocUnsafeSlow(PIECE));
  const free = [...rooms.keys()];
  const take = () =>
    ring.take((tag, result) => {
      assert.equal(result, PIECE);
      free.push(tag);
    });
  const pieces = 5 * CAPACITY;
  // From the end on, so that the order of asking is not that of the file.
  for (let piece = pieces - 1; piece >= 0; piece--) {
    while (free.length === 0) {
      assert.equal(ring.isFull, true);
      ring.wait();
      take();
    }
    const room = free.shift()!;
    rooms[room]!.fill(piece + 1);
    ring.write(fd, addressOf(rooms[room]!.buffer), PIECE, piece * PIECE, room);
  }
  while (ring.underWay > 0) {
    ring.wait();
    take();
  }
  closeSync(fd);
  const content = readFileSync(path);
  assert.equal(content.length, pieces * PIECE);
  for (let piece = 0; piece < pieces; piece++) {
    assert.deepEqual(content.subarray(piece * PIECE, (piece + 1) * PIECE), Buffer.alloc(PIECE, piece + 1));
  }
});

test("a write that is refused is told with its errno, and a ring goes on after it", (t) => {
  using ring = ringOrSkip(t);
  if (ring === undefined) return;
  using folder = mkdtempDisposableSync(join(tmpdir(), "lodge-ring-"));
  const path = join(folder.path, "file");
  closeSync(openSync(path, "w"));
  const room = Buffer.alloc(16, 7);
  const readOnly = openSync(path, "r");
  const writable = openSync(path, "r+");
  const answers: [number, number][] = [];
  for (const [tag, fd] of [readOnly, writable].entries()) {
    ring.write(fd, addressOf(room.buffer) + room.byteOffset, room.length, 0, tag);
    while (ring.underWay > 0) {
      ring.wait();
      ring.take((which, result) => answers.push([which, result]));
    }
  }
  closeSync(readOnly);
  closeSync(writable);
  assert.deepEqual(answers, [
    [0, -Errno.EBADF],
    [1, 16],
  ]);
});
