/** Time as the stack needs it; tests have one that they turn themselves. */

export interface Clock {
  /** Milliseconds since some moment; never goes back. */
  now(): number;
  after(ms: number, callback: () => void): Disposable;
}

export const systemClock: Clock = {
  now: () => performance.now(),
  after: (ms, callback) => {
    const timer = setTimeout(callback, ms);
    return { [Symbol.dispose]: () => clearTimeout(timer) };
  },
};

/**
 * A moment that is put off far more often than it comes: putting it off is one assignment, and the clock is asked again only
 * when the earlier moment has come.
 */
export class Deadline implements Disposable {
  readonly #clock: Clock;
  readonly #expired: () => void;
  #at = Number.POSITIVE_INFINITY;
  #timer: Disposable | undefined;
  #timerAt = Number.POSITIVE_INFINITY;

  constructor(clock: Clock, expired: () => void) {
    this.#clock = clock;
    this.#expired = expired;
  }

  get isSet(): boolean {
    return this.#at !== Number.POSITIVE_INFINITY;
  }

  set(ms: number): void {
    this.#at = this.#clock.now() + ms;
    if (this.#timerAt <= this.#at) return;
    this.#timer?.[Symbol.dispose]();
    this.#arm(ms);
  }

  clear(): void {
    this.#at = Number.POSITIVE_INFINITY;
  }

  #arm(ms: number): void {
    this.#timerAt = this.#clock.now() + ms;
    this.#timer = this.#clock.after(ms, () => {
      this.#timer = undefined;
      this.#timerAt = Number.POSITIVE_INFINITY;
      if (!this.isSet) return;
      const left = this.#at - this.#clock.now();
      if (left > 0.5) return this.#arm(left);
      this.#at = Number.POSITIVE_INFINITY;
      this.#expired();
    });
  }

  [Symbol.dispose](): void {
    this.clear();
    this.#timer?.[Symbol.dispose]();
    this.#timer = undefined;
    this.#timerAt = Number.POSITIVE_INFINITY;
  }
}
