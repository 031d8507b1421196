/** A store in memory that knows which of its blocks were written, as a sparse file does. */

import { notFast } from "../src/errors.ts";
import { type Extent, StorageError, type Store } from "../src/index.ts";

const BLOCK = 4096;

export class MemoryStore implements Store {
  readonly name: string;
  readonly readOnly: boolean;
  readonly bytes: Buffer;
  /** How often it was flushed. */
  flushes = 0;
  /** How often zeros were asked for that must not be written, and whether those are refused. */
  fastZeroes = 0;
  zeroesSlowly = false;
  /** What transfers fail with from now on. */
  failure: Error | undefined;
  readonly #written: Uint8Array;

  constructor(sizeBytes: number, options: { name?: string; readOnly?: boolean } = {}) {
    this.name = options.name ?? "memory";
    this.readOnly = options.readOnly ?? false;
    this.bytes = Buffer.alloc(sizeBytes);
    this.#written = new Uint8Array(Math.ceil(sizeBytes / BLOCK));
  }

  /** A store of these bytes, all of them written. */
  static of(bytes: Uint8Array, name?: string): MemoryStore {
    const store = new MemoryStore(bytes.length, name === undefined ? {} : { name });
    store.bytes.set(bytes);
    store.#written.fill(1);
    return store;
  }

  get sizeBytes(): number {
    return this.bytes.length;
  }

  async resize(): Promise<void> {
    throw new StorageError("STORAGE_IO", `${this.name} has a size of its own`);
  }

  async status(offset: number, length: number): Promise<Extent> {
    const written = this.#written[Math.floor(offset / BLOCK)];
    let end = offset + 1;
    while (end < offset + length && this.#written[Math.floor(end / BLOCK)] === written) {
      end = Math.min(offset + length, (Math.floor(end / BLOCK) + 1) * BLOCK);
    }
    return { length: end - offset, zero: !written, data: written === 1, present: written === 1, depth: 0 };
  }

  async read(offset: number, pieces: readonly Uint8Array[]): Promise<void> {
    if (this.failure !== undefined) throw this.failure;
    for (const piece of pieces) {
      const there = this.bytes.subarray(offset, offset + piece.length);
      piece.set(there);
      piece.fill(0, there.length);
      offset += piece.length;
    }
  }

  async write(offset: number, pieces: readonly Uint8Array[]): Promise<void> {
    if (this.failure !== undefined) throw this.failure;
    for (const piece of pieces) {
      this.bytes.set(piece, offset);
      this.#mark(offset, piece.length, 1);
      offset += piece.length;
    }
  }

  async flush(): Promise<void> {
    if (this.failure !== undefined) throw this.failure;
    this.flushes += 1;
  }

  async discard(offset: number, length: number): Promise<void> {
    await this.writeZeroes(offset, length, true);
  }

  async writeZeroes(offset: number, length: number, mayUnmap: boolean, onlyFast = false): Promise<void> {
    if (this.failure !== undefined) throw this.failure;
    if (onlyFast && this.zeroesSlowly) throw notFast(this.name);
    if (onlyFast) this.fastZeroes += 1;
    this.bytes.fill(0, offset, offset + length);
    if (!mayUnmap) this.#mark(offset, length, 1);
    else this.#written.fill(0, Math.ceil(offset / BLOCK), Math.floor((offset + length) / BLOCK));
  }

  async close(): Promise<void> {}

  #mark(offset: number, length: number, how: number): void {
    if (length > 0) this.#written.fill(how, Math.floor(offset / BLOCK), Math.ceil((offset + length) / BLOCK));
  }
}
