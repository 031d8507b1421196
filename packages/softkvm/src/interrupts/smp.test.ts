/** Processors in threads of their own over one shared area. */

import assert from "node:assert/strict";
import { test } from "node:test";
import { Worker } from "node:worker_threads";
import { SharedLock } from "./lock.ts";
import type { IpiTask } from "./testing/ipi-worker.ts";
import type { LineTask } from "./testing/line-worker.ts";
import { SoftMachine } from "./testing/soft-machine.ts";

/** Starts a worker for each task; resolves with what each posts last, once all have said that they are ready. */
async function together<T>(url: URL, tasks: object[], start: () => void): Promise<T[]> {
  const workers = tasks.map((workerData) => new Worker(url, { workerData }));
  const results = workers.map((worker) => {
    const { promise, resolve, reject } = Promise.withResolvers<T>();
    const ready = Promise.withResolvers<void>();
    worker.on("message", (message) => (message === "ready" ? ready.resolve() : resolve(message)));
    worker.on("error", reject);
    return { promise, ready: ready.promise };
  });
  await Promise.all(results.map(({ ready }) => ready));
  start();
  const outcomes = await Promise.all(results.map(({ promise }) => promise));
  await Promise.all(workers.map((worker) => worker.terminate()));
  return outcomes;
}

for (const processors of [2, 3]) {
  test(`${processors} processors interrupt each other, and none is lost`, async () => {
    const rounds = process.env.LODGE_LONG ? 100_000 : 10_000;
    const soft = new SoftMachine(processors);
    const words = new SharedArrayBuffer(4 * (processors + 2 + processors * processors));
    const start = new Int32Array(words);
    const tasks = soft.vcpus.map((_, index): IpiTask => ({ area: soft.area, words, processors, index, rounds }));
    const url = new URL("./testing/ipi-worker.ts", import.meta.url);
    const outcomes = await together<{ sent: number; taken: number[] }>(url, tasks, () => {
      Atomics.store(start, processors, 1);
      Atomics.notify(start, processors);
    });
    outcomes.forEach(({ sent, taken }, index) => {
      assert.equal(sent, rounds * (processors - 1));
      assert.deepEqual(
        taken,
        taken.map((_, from) => (from === index ? 0 : rounds)),
      );
    });
  });
}

test("threads that raise lines of one IOAPIC at once lose no edge", async () => {
  const rounds = 5000;
  const soft = new SoftMachine(1);
  const words = new SharedArrayBuffer(64);
  const start = new Int32Array(words);
  const tasks = [4, 5].map((gsi): LineTask => ({ area: soft.area, words, gsi, rounds }));
  const url = new URL("./testing/line-worker.ts", import.meta.url);
  const outcomes = await together<number>(url, tasks, () => {
    Atomics.store(start, 0, 1);
    Atomics.notify(start, 0);
  });
  // Masked pins: each edge is counted by the 8259A's input latch alone, merged or new, never -1.
  assert.deepEqual(outcomes, [rounds, rounds]);
  const state = soft.controller.getPic(0);
  assert.equal(state.irr & 0x30, 0x30);
  assert.equal(state.lastIrr & 0x30, 0);
});

test("the lock is one thread's at a time, also where it may not sleep", () => {
  const words = new Int32Array(new ArrayBuffer(8));
  const lock = new SharedLock(words, 0);
  lock.acquire();
  assert.equal(words[0], 1);
  lock.release();
  assert.equal(words[0], 0);
});
