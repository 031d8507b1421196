/**
 * A short lock in shared memory. Its sections are bounded and call nothing foreign, so a waiter spins; should the
 * holder have lost its processor, the waiter sleeps instead, where its thread may (a browser's main thread may not).
 */

const FREE = 0;
const HELD = 1;
/** Held, and someone sleeps. */
const AWAITED = 2;

/** Some microseconds: longer than any section takes. */
const SPINS = 1000;
/** A thread that may not sleep spins on without having marked the lock, so a sleeper looks again by itself. */
const NAP_MS = 1;

export class SharedLock {
  readonly #words: Int32Array;
  readonly #index: number;

  constructor(words: Int32Array, index: number) {
    this.#words = words;
    this.#index = index;
  }

  acquire(): void {
    if (Atomics.compareExchange(this.#words, this.#index, FREE, HELD) !== FREE) this.#contend();
  }

  release(): void {
    if (Atomics.exchange(this.#words, this.#index, FREE) === AWAITED) Atomics.notify(this.#words, this.#index, 1);
  }

  #contend(): void {
    for (;;) {
      for (let spin = 0; spin < SPINS; spin++) {
        if (Atomics.compareExchange(this.#words, this.#index, FREE, HELD) === FREE) return;
      }
      if (!this.#maySleep()) continue;
      // Whoever slept takes the lock as awaited: others may sleep still.
      if (Atomics.exchange(this.#words, this.#index, AWAITED) === FREE) return;
      Atomics.wait(this.#words, this.#index, AWAITED, NAP_MS);
    }
  }

  #maySleep(): boolean {
    try {
      // Never equal, so it returns at once; throws where waiting is not allowed or the memory is not shared.
      Atomics.wait(this.#words, this.#index, -1, 0);
      return true;
    } catch {
      return false;
    }
  }
}
