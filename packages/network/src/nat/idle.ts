/** What lives while it is used: flows that nobody ends. */

import { type Clock, Deadline } from "../clock.ts";

interface Entry<V> {
  readonly value: V;
  until: number;
}

/** How late an end may be. */
const GRAIN_MS = 1000;

export class IdleMap<V extends Disposable> implements Disposable {
  readonly #clock: Clock;
  readonly #most: number;
  readonly #deadline: Deadline;
  /** In the order of their last use. */
  readonly #entries = new Map<string, Entry<V>>();

  constructor(clock: Clock, most: number) {
    this.#clock = clock;
    this.#most = most;
    this.#deadline = new Deadline(clock, () => this.#sweep());
  }

  get size(): number {
    return this.#entries.size;
  }

  get values(): Iterable<V> {
    return this.#entries.values().map(({ value }) => value);
  }

  /** Finds one, and keeps it for so long from now. */
  use(key: string, idleMs: number): V | undefined {
    const entry = this.#entries.get(key);
    if (entry === undefined) return undefined;
    this.#entries.delete(key);
    this.#entries.set(key, entry);
    entry.until = this.#clock.now() + idleMs;
    return entry.value;
  }

  /** Adds one; when there are too many, the one that was not used for longest ends. */
  add(key: string, value: V, idleMs: number): void {
    this.remove(key);
    if (this.#entries.size >= this.#most) this.remove(this.#entries.keys().next().value!);
    this.#entries.set(key, { value, until: this.#clock.now() + idleMs });
    if (!this.#deadline.isSet) this.#deadline.set(idleMs + GRAIN_MS);
  }

  remove(key: string): void {
    const entry = this.#entries.get(key);
    this.#entries.delete(key);
    entry?.value[Symbol.dispose]();
  }

  #sweep(): void {
    const now = this.#clock.now();
    let next = Number.POSITIVE_INFINITY;
    for (const [key, { until }] of this.#entries) {
      if (until <= now) this.remove(key);
      else next = Math.min(next, until);
    }
    if (this.#entries.size > 0) this.#deadline.set(next - now + GRAIN_MS);
  }

  clear(): void {
    for (const key of [...this.#entries.keys()]) this.remove(key);
  }

  [Symbol.dispose](): void {
    this.clear();
    this.#deadline[Symbol.dispose]();
  }
}
