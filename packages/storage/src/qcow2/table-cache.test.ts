/** What the cache of tables keeps, what it forgets, and that it does not grow. */

import assert from "node:assert/strict";
import { test } from "node:test";
import { MemoryStore } from "../../testing/memory-store.ts";
import { TableCache } from "./table-cache.ts";

const SLICE = 4096;

function storeOf(slices: number): MemoryStore {
  const bytes = new Uint8Array(slices * SLICE);
  for (let at = 0; at < slices; at++) bytes.fill(at % 251, at * SLICE, (at + 1) * SLICE);
  return MemoryStore.of(bytes);
}

test("memory is used again: reading a thousand slices takes what the capacity has", async () => {
  const cache = new TableCache(storeOf(1000), 65536, 64 * SLICE);
  const buffers = new Set<ArrayBuffer>();
  for (let round = 0; round < 3; round++) {
    for (let at = 0; at < 1000; at++) {
      await cache.load(at * SLICE);
      const { bytes } = cache.peek(at * SLICE)!;
      assert.equal(bytes[SLICE - 1], at % 251);
      buffers.add(bytes.buffer);
    }
  }
  assert.equal(
    [...buffers].reduce((sum, { byteLength }) => sum + byteLength, 0),
    64 * SLICE,
  );
});

test("what is looked at often is seldom forgotten; what is dirty never", async () => {
  const cache = new TableCache(storeOf(1000), 65536, 64 * SLICE);
  await cache.load(0);
  cache.touch(cache.peek(0)!);
  cache.peek(0)!.bytes.fill(255);
  let misses = 0;
  for (let at = 2; at < 1000; at++) {
    await cache.load(at * SLICE);
    assert.ok(cache.peek(at * SLICE));
    if (cache.peek(SLICE) !== undefined) continue;
    misses += 1;
    await cache.load(SLICE);
  }
  // First in, first out would be 15 and more.
  assert.ok(misses < 10, `${misses} misses`);
  assert.equal(cache.peek(0)?.bytes[0], 255);
  assert.equal(cache.dirtyCount, 1);
});

test("more dirty slices than the capacity are all kept", async () => {
  const cache = new TableCache(storeOf(200), 65536, 64 * SLICE);
  for (let at = 0; at < 200; at++) {
    await cache.load(at * SLICE);
    const slice = cache.peek(at * SLICE)!;
    cache.touch(slice);
    slice.bytes[0] = 255 - (at % 251);
  }
  const taken = cache.takeDirty();
  assert.deepEqual(
    taken.map(({ offset, bytes }) => [offset / SLICE, bytes[0]]),
    Array.from({ length: 200 }, (_, at) => [at, 255 - (at % 251)]),
  );
  cache.giveBack(taken, false);
  assert.equal(cache.dirtyCount, 200);
});

test("a slice that is forgotten while it is written keeps its copy, and its memory until then", async () => {
  const store = storeOf(200);
  const cache = new TableCache(store, 65536, 64 * SLICE);
  await cache.load(0);
  const slice = cache.peek(0)!;
  const { bytes } = slice;
  cache.touch(slice);
  const taken = cache.takeDirty();
  cache.forget(0, SLICE);
  assert.equal(cache.peek(0), undefined);
  for (let at = 1; at < 200; at++) {
    await cache.load(at * SLICE);
    assert.notEqual(cache.peek(at * SLICE)!.bytes, bytes);
  }
  assert.equal(taken[0]!.offset, 0);
  // What cannot be written any more is not dirty either.
  cache.giveBack(taken, false);
  assert.equal(cache.dirtyCount, 0);
});

test("a slice that is forgotten while it is read is read again", async () => {
  const store = storeOf(1);
  const cache = new TableCache(store, 65536, 64 * SLICE);
  const loading = cache.load(0);
  store.bytes.fill(7);
  cache.forget(0, SLICE);
  await loading;
  assert.equal(cache.peek(0)?.bytes[0], 7);
});

test("a read that fails is told to all who wait, takes no memory, and can be tried again", async () => {
  const store = storeOf(100);
  const cache = new TableCache(store, 65536, 64 * SLICE);
  await cache.load(0);
  const { buffer } = cache.peek(0)!.bytes;
  const failure = new Error("the disk is broken");
  store.failure = failure;
  for (let round = 0; round < 200; round++) {
    const both = await Promise.allSettled([cache.load(SLICE), cache.load(SLICE)]);
    assert.deepEqual(
      both.map((one) => one.status === "rejected" && one.reason),
      [failure, failure],
    );
  }
  store.failure = undefined;
  await cache.load(SLICE);
  assert.equal(cache.peek(SLICE)?.bytes[0], 1);
  assert.equal(cache.peek(SLICE)?.bytes.buffer, buffer);
});

test("a table that is said to be behind the file's end is refused, each time", async () => {
  const cache = new TableCache(storeOf(1), 65536, 64 * SLICE);
  for (let round = 0; round < 2; round++) {
    await assert.rejects(cache.load(SLICE), { code: "STORAGE_CORRUPT", message: /behind the file's end/ });
  }
});
