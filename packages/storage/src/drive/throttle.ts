/** Limits of a disk's transfers: a bucket of tokens for operations and one for bytes, both filled at their rate. */

export interface Limits {
  /** Operations a second. */
  readonly iops?: number;
  /** How many may come at once after a quiet time. Default: a tenth of a second's. */
  readonly iopsBurst?: number;
  /** Bytes a second. */
  readonly bps?: number;
  readonly bpsBurst?: number;
}

/** Time, as a throttle has it. */
export interface Clock {
  nowMs(): number;
  /** Calls back once; disposing before that takes it back. */
  after(ms: number, callback: () => void): Disposable;
}

const HOST_CLOCK: Clock = {
  nowMs: () => performance.now(),
  after: (ms, callback) => {
    const timer = setTimeout(callback, ms);
    return { [Symbol.dispose]: () => clearTimeout(timer) };
  },
};

/** What a bucket holds, at most `most`. An operation larger than that passes when it is full, and leaves a debt. */
class Bucket {
  readonly #perMs: number;
  readonly #most: number;
  #tokens: number;

  constructor(perSecond: number, burst = perSecond / 10) {
    this.#perMs = perSecond / 1000;
    this.#most = Math.max(burst, 1);
    this.#tokens = this.#most;
  }

  fill(ms: number): void {
    this.#tokens = Math.min(this.#most, this.#tokens + ms * this.#perMs);
  }

  spend(tokens: number): void {
    this.#tokens -= tokens;
  }

  /** How long until an operation of so many may pass; 0 for now. */
  waitMs(tokens: number): number {
    const missing = Math.min(tokens, this.#most) - this.#tokens;
    // What is missing by less than rounding is there.
    return missing < 1e-6 ? 0 : missing / this.#perMs;
  }
}

export class Throttle {
  readonly #clock: Clock;
  #limits: Limits = {};
  #operations: Bucket | undefined;
  #bytes: Bucket | undefined;
  #filledAtMs = 0;
  /** Who waits, in order. */
  #waiting: { bytes: number; pass: () => void }[] = [];
  #timer: Disposable | undefined;

  constructor(limits: Limits = {}, clock: Clock = HOST_CLOCK) {
    this.#clock = clock;
    this.limits = limits;
  }

  get limits(): Limits {
    return this.#limits;
  }

  /** Holds for what waits, too. */
  set limits(limits: Limits) {
    this.#limits = limits;
    this.#operations = limits.iops === undefined ? undefined : new Bucket(limits.iops, limits.iopsBurst);
    this.#bytes = limits.bps === undefined ? undefined : new Bucket(limits.bps, limits.bpsBurst);
    this.#filledAtMs = this.#clock.nowMs();
    this.#pump();
  }

  /** An operation of so many bytes may pass when this is done; undefined: now. */
  take(bytes: number): Promise<void> | undefined {
    if (this.#waiting.length === 0 && this.#tryPass(bytes)) return undefined;
    const { promise, resolve } = Promise.withResolvers<void>();
    this.#waiting.push({ bytes, pass: resolve });
    this.#pump();
    return promise;
  }

  #tryPass(bytes: number): boolean {
    const nowMs = this.#clock.nowMs();
    const passedMs = nowMs - this.#filledAtMs;
    this.#filledAtMs = nowMs;
    for (const bucket of [this.#operations, this.#bytes]) bucket?.fill(passedMs);
    if (this.#waitMs(bytes) > 0) return false;
    this.#operations?.spend(1);
    this.#bytes?.spend(bytes);
    return true;
  }

  #waitMs(bytes: number): number {
    return Math.max(this.#operations?.waitMs(1) ?? 0, this.#bytes?.waitMs(bytes) ?? 0);
  }

  #pump(): void {
    this.#timer?.[Symbol.dispose]();
    this.#timer = undefined;
    let next = this.#waiting[0];
    while (next !== undefined && this.#tryPass(next.bytes)) {
      this.#waiting.shift();
      next.pass();
      next = this.#waiting[0];
    }
    if (next === undefined) return;
    this.#timer = this.#clock.after(Math.ceil(this.#waitMs(next.bytes)), () => this.#pump());
  }
}
