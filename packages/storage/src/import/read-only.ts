/** Stores that are read and refuse all else. */

import { StorageError } from "../errors.ts";
import type { Pieces } from "../file/pieces.ts";
import type { Extent, Store } from "../image.ts";

export abstract class ReadOnlyStore implements Store {
  readonly readOnly = true;
  abstract readonly name: string;
  abstract readonly sizeBytes: number;

  abstract read(offset: number, pieces: Pieces): Promise<void>;
  abstract status(offset: number, length: number): Promise<Extent>;
  abstract close(): Promise<void>;

  async flush(): Promise<void> {}

  async write(): Promise<void> {
    throw this.#refused();
  }

  async discard(): Promise<void> {
    throw this.#refused();
  }

  async writeZeroes(): Promise<void> {
    throw this.#refused();
  }

  async resize(): Promise<void> {
    throw this.#refused();
  }

  #refused(): StorageError {
    const cure = "lodge image convert makes an image of it that can be written";
    return new StorageError("STORAGE_IO", `${this.name} is only read here: ${cure}`);
  }
}
