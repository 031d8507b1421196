/** A cable that is not what it should be: it loses frames, doubles them, holds some back. What `tc netem` does, but each run the same. */

import type { Offload } from "../src/port.ts";

export interface Quality {
  /** Probabilities. */
  readonly loss: number;
  readonly duplication: number;
  /** A frame that is held back comes behind those that follow within `delayMs`. */
  readonly reordering: number;
  /** What every frame takes. */
  readonly delayMs: number;
  readonly seed: number;
}

export const GOOD_WIRE: Quality = { loss: 0, duplication: 0, reordering: 0, delayMs: 0, seed: 1 };

type Deliver = (frame: Uint8Array, offload: Offload | undefined) => void;

export class Wire implements Disposable {
  quality: Quality;
  #state: number;
  readonly #timers = new Set<NodeJS.Timeout>();
  lost = 0;

  constructor(quality: Quality) {
    this.quality = quality;
    this.#state = quality.seed;
  }

  carry(frame: Uint8Array, offload: Offload | undefined, deliver: Deliver): void {
    const { loss, duplication, reordering, delayMs } = this.quality;
    if (this.#happens(loss)) {
      this.lost += 1;
      return;
    }
    const copies = this.#happens(duplication) ? 2 : 1;
    for (let copy = 0; copy < copies; copy++) {
      const late = this.#happens(reordering) ? 1 + 4 * this.#random() : 0;
      // Who gets it may write to it; a good cable costs nothing that a machine's would not.
      if (delayMs + late > 0) this.#later(frame.slice(), offload, deliver, delayMs + late);
      else deliver(copies > 1 ? frame.slice() : frame, offload);
    }
  }

  #later(frame: Uint8Array, offload: Offload | undefined, deliver: Deliver, ms: number): void {
    const timer = setTimeout(() => {
      this.#timers.delete(timer);
      deliver(frame, offload);
    }, ms);
    this.#timers.add(timer);
  }

  #happens(probability: number): boolean {
    return probability > 0 && this.#random() < probability;
  }

  /** mulberry32. */
  #random(): number {
    this.#state = (this.#state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(this.#state ^ (this.#state >>> 15), 1 | this.#state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  }

  [Symbol.dispose](): void {
    for (const timer of this.#timers) clearTimeout(timer);
  }
}
