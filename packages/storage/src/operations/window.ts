/** A part of an image as one of its own, to be read. */

import { StorageError } from "../errors.ts";
import type { Pieces } from "../file/pieces.ts";
import type { Extent, Image } from "../image.ts";

export class ImageWindow implements Image {
  readonly format: string;
  readonly name: string;
  readonly sizeBytes: number;
  readonly readOnly = true;
  readonly #image: Image;
  readonly #start: number;

  /** `start + sizeBytes` is inside the image, which stays its owner's. */
  constructor(image: Image, start: number, sizeBytes: number) {
    this.#image = image;
    this.#start = start;
    this.format = image.format;
    this.name = image.name;
    this.sizeBytes = sizeBytes;
  }

  read(offset: number, pieces: Pieces): Promise<void> {
    return this.#image.read(this.#start + offset, pieces);
  }

  status(offset: number, length: number): Promise<Extent> {
    return this.#image.status(this.#start + offset, length);
  }

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
    return Promise.reject(new StorageError("STORAGE_IO", `${this.name}: a part of an image is only read`));
  }
}
