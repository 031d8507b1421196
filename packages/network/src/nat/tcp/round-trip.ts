/** The retransmission timeout (RFC 6298), in milliseconds. */

import { isBefore } from "./sequence.ts";

const FIRST = 1000;
/** RFC 6298 says a second; what Linux has is enough on a wire to a guest. */
const SHORTEST = 200;
const LONGEST = 60_000;

export class RoundTrip {
  #smoothed: number | undefined;
  #variation = 0;
  #timeout = FIRST;
  #backoff = 0;
  /** What is timed: the acknowledgement that ends it, and when it began. */
  #timed: { until: number; since: number } | undefined;

  get timeoutMs(): number {
    return Math.min(this.#timeout * 2 ** this.#backoff, LONGEST);
  }

  /** How often in a row nothing was heard in time. */
  get backoff(): number {
    return this.#backoff;
  }

  /** Something new was sent, up to this number. One thing is timed at a time. */
  sent(until: number, now: number): void {
    this.#timed ??= { until, since: now };
  }

  /** Something is sent again: what is timed could not be told from it (Karn). */
  resent(): void {
    this.#timed = undefined;
  }

  acknowledged(upTo: number, now: number): void {
    this.#backoff = 0;
    if (this.#timed === undefined || isBefore(upTo, this.#timed.until)) return;
    const sample = now - this.#timed.since;
    this.#timed = undefined;
    if (this.#smoothed === undefined) {
      this.#smoothed = sample;
      this.#variation = sample / 2;
    } else {
      this.#variation = 0.75 * this.#variation + 0.25 * Math.abs(this.#smoothed - sample);
      this.#smoothed = 0.875 * this.#smoothed + 0.125 * sample;
    }
    this.#timeout = Math.min(Math.max(this.#smoothed + 4 * this.#variation, SHORTEST), LONGEST);
  }

  expired(): void {
    this.#backoff += 1;
    this.#timed = undefined;
  }
}
