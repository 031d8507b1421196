/** What a thread gives back when its vCPU is idle. */

import assert from "node:assert/strict";
import { test } from "node:test";
import { getHeapStatistics } from "node:v8";
import { garbageCollector } from "./garbage.ts";

/** Garbage of at least so many bytes, on the heap and not beside it. */
function litter(bytes: number): void {
  const objects: unknown[] = [];
  const before = getHeapStatistics().used_heap_size;
  while (getHeapStatistics().used_heap_size - before < bytes) {
    for (let index = 0; index < 10_000; index++) objects.push({ index, text: `${index}` });
  }
}

test("a heap that has grown is collected, one that has not is left alone", () => {
  let collected = 0;
  const idle = garbageCollector(() => collected++);
  litter(80 << 20);
  const before = getHeapStatistics().total_heap_size;
  idle();
  const after = getHeapStatistics().total_heap_size;
  assert.equal(collected, 1);
  assert.ok(after < before - (60 << 20), `${before} to ${after} bytes`);
  idle();
  assert.equal(collected, 1);
  litter(80 << 20);
  idle();
  assert.equal(collected, 2);
  assert.equal("gc" in globalThis, false, "nobody else finds the collector");
});
