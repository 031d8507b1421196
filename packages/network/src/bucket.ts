/** A bucket of tokens, filled at a rate: what may pass, and when. */

export class Bucket {
  readonly #perMs: number;
  readonly #most: number;
  #tokens: number;
  #filledAtMs: number;

  /** `most`: what may pass at once after a quiet time. */
  constructor(perSecond: number, most: number, nowMs: number) {
    this.#perMs = perSecond / 1000;
    this.#most = Math.max(most, 1);
    this.#tokens = this.#most;
    this.#filledAtMs = nowMs;
  }

  #fill(nowMs: number): void {
    this.#tokens = Math.min(this.#most, this.#tokens + (nowMs - this.#filledAtMs) * this.#perMs);
    this.#filledAtMs = nowMs;
  }

  /** How long until so many may pass; 0 for now. What is more than it holds passes when it is full, and leaves a debt. */
  waitMs(tokens: number, nowMs: number): number {
    this.#fill(nowMs);
    const missing = Math.min(tokens, this.#most) - this.#tokens;
    // What is missing by less than rounding is there.
    return missing < 1e-6 ? 0 : missing / this.#perMs;
  }

  spend(tokens: number): void {
    this.#tokens -= tokens;
  }

  /** Spends them if they are there. */
  take(tokens: number, nowMs: number): boolean {
    if (this.waitMs(tokens, nowMs) > 0) return false;
    this.spend(tokens);
    return true;
  }
}
