/** Who may be at work on an image at the same time. */

/** One after the other, in the order of asking. */
export class Turns {
  #last: Promise<unknown> = Promise.resolve();

  take<T>(work: () => Promise<T>): Promise<T> {
    const result = this.#last.then(work, work);
    this.#last = result.catch(() => {});
    return result;
  }
}

/**
 * Requests pass it side by side; work on the whole image closes it and waits until they are through. Clusters that were
 * given up may still be read or written by requests that began before: {@link drained} says when those have ended.
 */
export class Gate {
  readonly #inside: [number, number] = [0, 0];
  #epoch: 0 | 1 = 0;
  #wakes: (() => void)[] = [];
  #closed: Promise<void> | undefined;
  readonly #turns = new Turns();

  /** Undefined if it is open, else when to ask again. */
  get closed(): Promise<void> | undefined {
    return this.#closed;
  }

  enter(): 0 | 1 {
    this.#inside[this.#epoch] += 1;
    return this.#epoch;
  }

  leave(epoch: 0 | 1): void {
    this.#inside[epoch] -= 1;
    if (this.#inside[epoch] > 0 || this.#wakes.length === 0) return;
    const wakes = this.#wakes;
    this.#wakes = [];
    for (const wake of wakes) wake();
  }

  /** Resolves when every request that is inside now has left. */
  drained(): Promise<void> {
    return this.#turns.take(async () => {
      const before = this.#epoch;
      this.#epoch = before === 0 ? 1 : 0;
      while (this.#inside[before] > 0) await new Promise<void>((done) => this.#wakes.push(done));
    });
  }

  /** Works while no request is inside. */
  async alone<T>(work: () => Promise<T>): Promise<T> {
    while (this.#closed !== undefined) await this.#closed;
    const { promise, resolve } = Promise.withResolvers<void>();
    this.#closed = promise;
    try {
      await this.drained();
      return await work();
    } finally {
      this.#closed = undefined;
      resolve();
    }
  }
}

/** Ranges of clusters that somebody is changing. */
export class Claims {
  readonly #held = new Set<{ first: number; last: number; done: Promise<void> }>();

  /** Waits until nobody has any of these clusters, and has them until the answer is called. */
  async take(first: number, last: number): Promise<() => void> {
    for (let other = this.#find(first, last); other !== undefined; other = this.#find(first, last)) await other.done;
    const { promise, resolve } = Promise.withResolvers<void>();
    const claim = { first, last, done: promise };
    this.#held.add(claim);
    return () => {
      this.#held.delete(claim);
      resolve();
    };
  }

  #find(first: number, last: number) {
    for (const claim of this.#held) if (claim.first <= last && first <= claim.last) return claim;
    return undefined;
  }
}
