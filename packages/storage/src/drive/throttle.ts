/** Limits of a disk's transfers: a bucket of tokens for operations and one for bytes, both filled at their rate. */

import { Bucket } from "@lodge/network/bucket";

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

export class Throttle {
  readonly #clock: Clock;
  #limits: Limits = {};
  #operations: Bucket | undefined;
  #bytes: Bucket | undefined;
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
    this.#operations = this.#bucket(limits.iops, limits.iopsBurst);
    this.#bytes = this.#bucket(limits.bps, limits.bpsBurst);
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

  #bucket(perSecond: number | undefined, burst: number | undefined): Bucket | undefined {
    if (perSecond === undefined) return undefined;
    return new Bucket(perSecond, burst ?? perSecond / 10, this.#clock.nowMs());
  }

  #tryPass(bytes: number): boolean {
    if (this.#waitMs(bytes) > 0) return false;
    this.#operations?.spend(1);
    this.#bytes?.spend(bytes);
    return true;
  }

  #waitMs(bytes: number): number {
    const nowMs = this.#clock.nowMs();
    return Math.max(this.#operations?.waitMs(1, nowMs) ?? 0, this.#bytes?.waitMs(bytes, nowMs) ?? 0);
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
