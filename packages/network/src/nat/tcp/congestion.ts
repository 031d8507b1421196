/** How much may be on the way to the guest (RFC 5681, with appropriate byte counting of RFC 3465). */

/** RFC 6928. */
const FIRST_SEGMENTS = 10;

export class Congestion {
  readonly #mss: number;
  readonly #most: number;
  #window: number;
  #threshold = Number.POSITIVE_INFINITY;

  /** `most`: what no window needs to pass. */
  constructor(mss: number, most: number) {
    this.#mss = mss;
    this.#most = most;
    this.#window = FIRST_SEGMENTS * mss;
  }

  get window(): number {
    return this.#window;
  }

  acknowledged(bytes: number): void {
    const growth = this.#window < this.#threshold ? bytes : (this.#mss * bytes) / this.#window;
    this.#window = Math.min(this.#window + growth, this.#most);
  }

  /** A loss that what arrived behind it has told. */
  lost(flight: number): void {
    this.#threshold = Math.max(flight / 2, 2 * this.#mss);
    this.#window = this.#threshold;
  }

  /** Nothing was heard in time. */
  expired(flight: number): void {
    this.#threshold = Math.max(flight / 2, 2 * this.#mss);
    this.#window = this.#mss;
  }
}
