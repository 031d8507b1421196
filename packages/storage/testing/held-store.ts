/** A store whose reads can be held back, to have something else happen meanwhile. */

import type { Extent, Store } from "../src/index.ts";

export class HeldStore implements Store {
  readonly #store: Store;
  #held: Promise<void> | undefined;
  #release = () => {};
  #asked = Promise.withResolvers<void>();

  constructor(store: Store) {
    this.#store = store;
  }

  hold(): void {
    const { promise, resolve } = Promise.withResolvers<void>();
    this.#held = promise;
    this.#release = resolve;
    this.#asked = Promise.withResolvers();
  }

  release(): void {
    this.#held = undefined;
    this.#release();
  }

  /** Resolves when a read is held. */
  get asked(): Promise<void> {
    return this.#asked.promise;
  }

  get name(): string {
    return this.#store.name;
  }

  get sizeBytes(): number {
    return this.#store.sizeBytes;
  }

  get readOnly(): boolean {
    return this.#store.readOnly;
  }

  async read(offset: number, pieces: readonly Uint8Array[]): Promise<void> {
    if (this.#held !== undefined) {
      this.#asked.resolve();
      await this.#held;
    }
    await this.#store.read(offset, pieces);
  }

  write(offset: number, pieces: readonly Uint8Array[]): Promise<void> {
    return this.#store.write(offset, pieces);
  }

  flush(): Promise<void> {
    return this.#store.flush();
  }

  discard(offset: number, length: number): Promise<void> {
    return this.#store.discard(offset, length);
  }

  writeZeroes(offset: number, length: number, mayUnmap: boolean): Promise<void> {
    return this.#store.writeZeroes(offset, length, mayUnmap);
  }

  resize(sizeBytes: number): Promise<void> {
    return this.#store.resize(sizeBytes);
  }

  status(offset: number, length: number): Promise<Extent> {
    return this.#store.status(offset, length);
  }

  close(): Promise<void> {
    return this.#store.close();
  }
}
