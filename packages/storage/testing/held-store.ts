/** A store whose reads can be held back, to have something else happen meanwhile. */

import { RawImage } from "../src/raw/raw-image.ts";

export class HeldStore extends RawImage {
  #held: Promise<void> | undefined;
  #release = () => {};
  #asked = Promise.withResolvers<void>();

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

  override async read(offset: number, pieces: readonly Uint8Array[]): Promise<void> {
    if (this.#held !== undefined) {
      this.#asked.resolve();
      await this.#held;
    }
    await super.read(offset, pieces);
  }
}
