/** What an image is that shows others, to be read; those stay their owner's. */

import { StorageError } from "../errors.ts";
import type { Pieces } from "../file/pieces.ts";
import type { Extent, Image } from "../image.ts";

export abstract class OnlyRead implements Image {
  readonly format: string;
  readonly name: string;
  readonly sizeBytes: number;
  readonly readOnly = true;

  constructor(name: string, format: string, sizeBytes: number) {
    this.name = name;
    this.format = format;
    this.sizeBytes = sizeBytes;
  }

  abstract read(offset: number, pieces: Pieces): Promise<void>;

  abstract status(offset: number, length: number): Promise<Extent>;

  write(): Promise<void> {
    return this.#refuse();
  }

  discard(): Promise<void> {
    return this.#refuse();
  }

  writeZeroes(): Promise<void> {
    return this.#refuse();
  }

  resize(): Promise<void> {
    return this.#refuse();
  }

  async flush(): Promise<void> {}

  async close(): Promise<void> {}

  #refuse(): Promise<void> {
    return Promise.reject(new StorageError("STORAGE_IO", `${this.name}: it is only read here`));
  }
}
