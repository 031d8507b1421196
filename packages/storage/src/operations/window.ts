/** A part of an image as one of its own, to be read. */

import type { Pieces } from "../file/pieces.ts";
import type { Extent, Image } from "../image.ts";
import { OnlyRead } from "./only-read.ts";

export class ImageWindow extends OnlyRead {
  readonly #image: Image;
  readonly #start: number;

  /** `start + sizeBytes` is inside the image, which stays its owner's. */
  constructor(image: Image, start: number, sizeBytes: number) {
    super(image.name, image.format, sizeBytes);
    this.#image = image;
    this.#start = start;
  }

  read(offset: number, pieces: Pieces): Promise<void> {
    return this.#image.read(this.#start + offset, pieces);
  }

  status(offset: number, length: number): Promise<Extent> {
    return this.#image.status(this.#start + offset, length);
  }
}
