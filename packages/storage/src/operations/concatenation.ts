/** Images one behind the other as one, to be read. */

import { cutPieces, type Pieces, totalBytes } from "../file/pieces.ts";
import type { Extent, Image } from "../image.ts";
import { settled } from "../settled.ts";
import { OnlyRead } from "./only-read.ts";

export class Concatenation extends OnlyRead {
  readonly #parts: readonly { image: Image; start: number; end: number }[];

  /** The images stay their owner's. */
  constructor(images: readonly Image[]) {
    let end = 0;
    const parts = images.map((image) => {
      const start = end;
      end += image.sizeBytes;
      return { image, start, end };
    });
    super(images.map(({ name }) => name).join(" + "), "raw", end);
    this.#parts = parts;
  }

  async read(offset: number, pieces: Pieces): Promise<void> {
    const stop = offset + totalBytes(pieces);
    const reads: Promise<void>[] = [];
    for (const { image, start, end } of this.#parts) {
      const [from, to] = [Math.max(start, offset), Math.min(end, stop)];
      if (from < to) reads.push(image.read(from - start, cutPieces(pieces, from - offset, to - from)));
    }
    await settled(reads);
  }

  status(offset: number, length: number): Promise<Extent> {
    const { image, start, end } = this.#parts.find((part) => offset < part.end)!;
    return image.status(offset - start, Math.min(length, end - offset));
  }
}
