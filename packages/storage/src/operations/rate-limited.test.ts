/** A copy under a limit, in a time of the test's own. */

import assert from "node:assert/strict";
import { test } from "node:test";
import { MemoryStore } from "../../testing/memory-store.ts";
import { type Clock, Throttle } from "../drive/throttle.ts";
import { RawImage } from "../raw/raw-image.ts";
import { copyImage } from "./copy.ts";
import { RateLimitedImage } from "./rate-limited.ts";

const MIB = 1 << 20;

/** Time that passes as soon as nothing else is to be done. */
class EagerClock implements Clock {
  #nowMs = 0;

  nowMs(): number {
    return this.#nowMs;
  }

  after(ms: number, callback: () => void): Disposable {
    const turn = setImmediate(() => {
      this.#nowMs += ms;
      callback();
    });
    return { [Symbol.dispose]: () => clearImmediate(turn) };
  }
}

test("a copy reads its data at the rate that it may have, and zeros at once", async () => {
  for (const parallel of [1, 4]) {
    const source = new MemoryStore(64 * MIB);
    for (const at of [0, 20, 21, 63]) await source.write(at * MIB, [Buffer.alloc(MIB, at + 1)]);
    const target = new MemoryStore(64 * MIB);
    const clock = new EagerClock();
    const limited = new RateLimitedImage(new RawImage(source), new Throttle({ bps: 2 * MIB }, clock));
    await copyImage(limited, new RawImage(target), { parallel });
    // Half a second for each MiB behind the first, which passes as a burst.
    assert.ok(Math.abs(clock.nowMs() - 1500) < 5, `${clock.nowMs()} ms`);
    assert.ok(target.bytes.equals(source.bytes));
  }
});
