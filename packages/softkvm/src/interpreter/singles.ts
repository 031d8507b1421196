/**
 * Instructions that were decoded one by one: those that an answer of the monitor is waited for, or that hold interrupts off
 * from the next one. Guests execute the same ones again and again. Nobody tells when their bytes are written, so those are
 * compared.
 */

/** How many are kept. */
export const SINGLES = 64;

interface Single {
  readonly key: number;
  readonly record: number;
  /** Its bytes; none until it is decoded. */
  bytes: Uint8Array;
}

const NO_BYTES = new Uint8Array(0);

export class Singles {
  readonly #memory: Uint8Array;
  readonly #at: number;
  readonly #size: number;
  readonly #byKey = new Map<number, Single>();
  readonly #slots: (Single | undefined)[] = [];
  #next = 0;

  /** Each has `size` bytes for its records, from `at` on. */
  constructor(memory: Uint8Array, at: number, size: number) {
    this.#memory = memory;
    this.#at = at;
    this.#size = size;
  }

  /** The record of the instruction that lies at a place in memory, if it was decoded and is what it was; else 0. */
  find(key: number, host: number): number {
    const single = this.#byKey.get(key);
    if (single === undefined) return 0;
    const { bytes, record } = single;
    for (let index = 0; index < bytes.length; index++) if (this.#memory[host + index] !== bytes[index]) return 0;
    return bytes.length > 0 ? record : 0;
  }

  /** Makes room for one; returns where its records go. */
  next(key: number): number {
    const known = this.#byKey.get(key);
    const slot = known === undefined ? this.#next : this.#slots.indexOf(known);
    if (known === undefined) this.#next = (this.#next + 1) % SINGLES;
    const before = this.#slots[slot];
    if (before !== undefined) this.#byKey.delete(before.key);
    const single = { key, record: this.#at + slot * this.#size, bytes: NO_BYTES };
    this.#slots[slot] = single;
    this.#byKey.set(key, single);
    this.#last = single;
    return single.record;
  }
  #last: Single | undefined;

  /** The last one was decoded from so many bytes. */
  keep(host: number, length: number): void {
    if (this.#last !== undefined) this.#last.bytes = this.#memory.slice(host, host + length);
  }

  clear(): void {
    this.#byKey.clear();
    this.#slots.length = 0;
    this.#next = 0;
    this.#last = undefined;
  }
}
