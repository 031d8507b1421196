/** Random numbers that a seed repeats: xorshift32. */
export class Random {
  #state: number;
  constructor(seed: number) {
    this.#state = (seed ^ 0x5f356495) | 1;
    for (let index = 0; index < 8; index++) this.#next();
  }
  below(limit: number): number {
    return (this.#next() >>> 3) % limit;
  }
  bits64(): bigint {
    return (BigInt(this.#next()) << 32n) | BigInt(this.#next());
  }
  #next(): number {
    let x = this.#state;
    x ^= x << 13;
    x ^= x >>> 17;
    x ^= x << 5;
    this.#state = x;
    return Math.imul(x, 0x9e3779b1) >>> 0;
  }
}
