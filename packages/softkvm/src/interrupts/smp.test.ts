/** Processors in threads of their own over one shared area. */

import assert from "node:assert/strict";
import { test } from "node:test";
import { Worker } from "node:worker_threads";
import type { IpiTask } from "./testing/ipi-worker.ts";
import type { LockTask } from "./testing/lock-worker.ts";
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

test("the lock is one thread's at a time", async () => {
  const rounds = 20_000;
  const buffer = new SharedArrayBuffer(12);
  const words = new Int32Array(buffer);
  const tasks = [1, 2, 3].map((): LockTask => ({ words: buffer, rounds }));
  await together<string>(new URL("./testing/lock-worker.ts", import.meta.url), tasks, () => {
    Atomics.store(words, 2, 1);
    Atomics.notify(words, 2);
  });
  assert.deepEqual([...words], [0, 3 * rounds, 1]);
});
