/** How much one client may have under way at once: whoever wants more waits, which is felt on its socket. */

export class Budget {
  #requests: number;
  #bytes: number;
  #waiter: { bytes: number; go(): void } | undefined;
  readonly #all: { requests: number; bytes: number };
  #idle: (() => void) | undefined;

  constructor(requests: number, bytes: number) {
    this.#requests = requests;
    this.#bytes = bytes;
    this.#all = { requests, bytes };
  }

  /** Takes one request and its bytes, of which there are never more than the whole budget. One caller at a time. */
  async take(bytes: number): Promise<void> {
    if (!this.#fits(bytes)) {
      const { promise, resolve } = Promise.withResolvers<void>();
      this.#waiter = { bytes, go: resolve };
      await promise;
    }
    this.#requests -= 1;
    this.#bytes -= bytes;
  }

  give(bytes: number): void {
    this.#requests += 1;
    this.#bytes += bytes;
    const waiter = this.#waiter;
    if (waiter !== undefined && this.#fits(waiter.bytes)) {
      this.#waiter = undefined;
      waiter.go();
    }
    if (this.#requests === this.#all.requests) this.#idle?.();
  }

  /** Settles when all that was taken has been given back. */
  async idle(): Promise<void> {
    if (this.#requests === this.#all.requests) return;
    const { promise, resolve } = Promise.withResolvers<void>();
    this.#idle = resolve;
    await promise;
  }

  #fits(bytes: number): boolean {
    return this.#requests > 0 && this.#bytes >= Math.min(bytes, this.#all.bytes);
  }
}
