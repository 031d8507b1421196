/** Stores that are read and refuse all else. */

import { StorageError } from "../errors.ts";
import { cutPieces, fillPieces, type Pieces, totalBytes } from "../file/pieces.ts";
import type { Extent, Store } from "../image.ts";

export abstract class ReadOnlyStore implements Store {
  readonly readOnly = true;
  abstract readonly name: string;
  abstract readonly sizeBytes: number;

  /** Reads what lies inside; at least one byte. */
  protected abstract readInside(offset: number, pieces: Pieces, length: number): Promise<void>;
  abstract status(offset: number, length: number): Promise<Extent>;
  abstract close(): Promise<void>;

  async read(offset: number, pieces: Pieces): Promise<void> {
    const length = totalBytes(pieces);
    const inside = Math.max(0, Math.min(length, this.sizeBytes - offset));
    if (inside > 0) await this.readInside(offset, cutPieces(pieces, 0, inside), inside);
    if (inside < length) fillPieces(cutPieces(pieces, inside, length - inside), 0);
  }

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
