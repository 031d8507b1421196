/** Limits in a time of the test's own. */

import assert from "node:assert/strict";
import { test } from "node:test";
import { Random } from "../../testing/random.ts";
import { type Clock, type Limits, Throttle } from "./throttle.ts";

/** Time that passes when it is told to. */
class ManualClock implements Clock {
  #nowMs = 0;
  #timers: { atMs: number; callback: () => void }[] = [];

  nowMs(): number {
    return this.#nowMs;
  }

  after(ms: number, callback: () => void): Disposable {
    const timer = { atMs: this.#nowMs + ms, callback };
    this.#timers.push(timer);
    return {
      [Symbol.dispose]: () => {
        this.#timers = this.#timers.filter((other) => other !== timer);
      },
    };
  }

  /** Lets time pass up to the next timer; false when there is none. */
  step(): boolean {
    const next = this.#timers.toSorted((a, b) => a.atMs - b.atMs)[0];
    if (next === undefined) return false;
    this.#timers = this.#timers.filter((other) => other !== next);
    this.#nowMs = Math.max(this.#nowMs, next.atMs);
    next.callback();
    return true;
  }

  pass(ms: number): void {
    this.#nowMs += ms;
  }
}

/** When each of so many operations passes, all asked for at once. */
async function passes(limits: Limits, operations: readonly number[], clock = new ManualClock()): Promise<number[]> {
  const throttle = new Throttle(limits, clock);
  const times: number[] = [];
  for (const [index, bytes] of operations.entries()) {
    const turn = throttle.take(bytes);
    if (turn === undefined) times[index] = clock.nowMs();
    else void turn.then(() => (times[index] = clock.nowMs()));
  }
  do await new Promise((done) => setImmediate(done));
  while (clock.step());
  return times;
}

test("without limits nothing waits", async () => {
  assert.deepEqual(await passes({}, [1, 2, 3]), [0, 0, 0]);
});

test("a burst passes at once, the rest at the rate", async () => {
  assert.deepEqual(await passes({ iops: 100, iopsBurst: 3 }, Array(6).fill(0)), [0, 0, 0, 10, 20, 30]);
  // What is larger than the bucket waits for a full one, and leaves a debt.
  assert.deepEqual(await passes({ bps: 1000, bpsBurst: 100 }, [500, 1, 1000, 1]), [0, 401, 501, 1402]);
});

test("whatever is asked: in order, not above the rate, and no slower than it", async () => {
  const random = new Random(1);
  for (let round = 0; round < 200; round++) {
    const limits = {
      iops: 1 + random.below(10_000),
      iopsBurst: 1 + random.below(100),
      bps: 512 + random.below(1 << 24),
      bpsBurst: 512 + random.below(1 << 20),
    };
    const operations = Array.from({ length: 1 + random.below(60) }, () => random.below(1 << 16));
    const times = await passes(limits, operations);
    assert.equal(times.length, operations.length);
    let bytes = 0;
    for (const [index, time] of times.entries()) {
      assert.ok(time >= (times[index - 1] ?? 0), "in order");
      // As this one passed, the buckets held what it takes, or all they can.
      const held = Math.min(operations[index]!, limits.bpsBurst);
      const paidMs = Math.max(
        ((index + 1 - limits.iopsBurst) / limits.iops) * 1000,
        ((bytes + held - limits.bpsBurst) / limits.bps) * 1000,
        0,
      );
      assert.ok(time >= paidMs - 1e-3, `${time} ms, and not before ${paidMs}`);
      // Timers are whole milliseconds, one for each that waited; a full bucket takes nothing more meanwhile.
      assert.ok(time <= paidMs + index + 1, `${time} ms, where ${paidMs} would do`);
      bytes += operations[index]!;
    }
  }
});

test("limits change under those that wait", async () => {
  const clock = new ManualClock();
  const throttle = new Throttle({ iops: 1, iopsBurst: 1 }, clock);
  assert.equal(throttle.take(0), undefined);
  const order: string[] = [];
  const waiting = [throttle.take(0), throttle.take(0)].map((turn, index) => turn?.then(() => order.push(`${index}`)));
  // A new bucket is full: one may pass.
  throttle.limits = { iops: 2, iopsBurst: 1 };
  assert.deepEqual(throttle.limits, { iops: 2, iopsBurst: 1 });
  await waiting[0];
  assert.deepEqual(order, ["0"]);
  throttle.limits = {};
  await Promise.all(waiting);
  assert.deepEqual(order, ["0", "1"]);
  assert.equal(throttle.take(1 << 30), undefined);
  assert.equal(clock.step(), false, "no timer is left");
});

test("a quiet time fills the bucket, and no more than that", async () => {
  const clock = new ManualClock();
  const throttle = new Throttle({ iops: 10, iopsBurst: 2 }, clock);
  clock.pass(60_000);
  assert.deepEqual(
    Array.from({ length: 4 }, () => throttle.take(0) === undefined),
    [true, true, false, false],
  );
  throttle.limits = {};
});
