/** A part of an image as one of its own. */

import { StorageError } from "./errors.ts";
import type { Pieces } from "./file/pieces.ts";
import type { Extent, Image } from "./image.ts";

export class ImageWindow implements Image {
  readonly #image: Image;
  readonly #start: number;
  readonly sizeBytes: number;

  /** `start + sizeBytes` is inside the image, which is closed with this. */
  constructor(image: Image, start: number, sizeBytes: number) {
    this.#image = image;
    this.#start = start;
    this.sizeBytes = sizeBytes;
  }

  get name(): string {
    return this.#image.name;
  }

  get format(): string {
    return this.#image.format;
  }

  get readOnly(): boolean {
    return this.#image.readOnly;
  }

  read(offset: number, pieces: Pieces): Promise<void> {
    return this.#image.read(this.#start + offset, pieces);
  }

  write(offset: number, pieces: Pieces): Promise<void> {
    return this.#image.write(this.#start + offset, pieces);
  }

  flush(): Promise<void> {
    return this.#image.flush();
  }

  discard(offset: number, length: number): Promise<void> {
    return this.#image.discard(this.#start + offset, length);
  }

  writeZeroes(offset: number, length: number, mayUnmap: boolean, onlyFast = false): Promise<void> {
    return this.#image.writeZeroes(this.#start + offset, length, mayUnmap, onlyFast);
  }

  async resize(): Promise<void> {
    throw new StorageError("STORAGE_IO", `${this.name}: a part of it cannot be made longer or shorter`);
  }

  status(offset: number, length: number): Promise<Extent> {
    return this.#image.status(this.#start + offset, length);
  }

  close(): Promise<void> {
    return this.#image.close();
  }
}
