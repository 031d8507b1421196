/** An image of which only so much is read in a second. */

import type { Throttle } from "../drive/throttle.ts";
import type { Pieces } from "../file/pieces.ts";
import { totalBytes } from "../file/pieces.ts";
import type { Extent, Image } from "../image.ts";
import { OnlyRead } from "./only-read.ts";

export class RateLimitedImage extends OnlyRead {
  readonly #image: Image;
  readonly #throttle: Throttle;

  constructor(image: Image, throttle: Throttle) {
    super(image.name, image.format, image.sizeBytes);
    this.#image = image;
    this.#throttle = throttle;
  }

  async read(offset: number, pieces: Pieces): Promise<void> {
    await this.#throttle.take(totalBytes(pieces));
    await this.#image.read(offset, pieces);
  }

  status(offset: number, length: number): Promise<Extent> {
    return this.#image.status(offset, length);
  }
}
