/** Random numbers from a seed, so that a failure can be had again (mulberry32). */
export class Random {
  readonly seed: number;
  #state: number;

  constructor(seed = Number(process.env.LODGE_SEED ?? crypto.getRandomValues(new Uint32Array(1))[0])) {
    this.seed = seed >>> 0;
    this.#state = this.seed;
  }

  u32(): number {
    this.#state = (this.#state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(this.#state ^ (this.#state >>> 15), this.#state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return (mixed ^ (mixed >>> 14)) >>> 0;
  }

  /** A whole number from 0 up to, not including, `end`. */
  below(end: number): number {
    return Math.floor((this.u32() / 2 ** 32) * end);
  }

  chance(probability: number): boolean {
    return this.u32() < probability * 2 ** 32;
  }

  pick<T>(from: readonly T[]): T {
    return from[this.below(from.length)]!;
  }
}
