/** An image of which as much is read as can be. */

import { StorageError } from "../errors.ts";
import { cutPieces, fillPieces, type Pieces, totalBytes } from "../file/pieces.ts";
import type { Extent, Image } from "../image.ts";
import { OnlyRead } from "./only-read.ts";

const SECTOR = 512;
/** So much is tried to be read where it cannot be told how it is held. */
const UNKNOWN_BYTES = 65536;

export class SalvagedImage extends OnlyRead {
  readonly #image: Image;
  readonly #lost: (offset: number, length: number) => void;

  /** What cannot be read are zeros, and `lost` is told of it. */
  constructor(image: Image, lost: (offset: number, length: number) => void) {
    super(image.name, image.format, image.sizeBytes);
    this.#image = image;
    this.#lost = lost;
  }

  async read(offset: number, pieces: Pieces): Promise<void> {
    let start = 0;
    let end = 0;
    // Neighbours are told of together.
    const lost = (at: number, length: number) => {
      if (at !== end && end > start) this.#lost(start, end - start);
      if (at !== end) start = at;
      end = at + length;
    };
    await this.#read(offset, pieces, lost);
    if (end > start) this.#lost(start, end - start);
  }

  /** In halves, down to single sectors: what a device cannot read is few of them, as a rule. */
  async #read(offset: number, pieces: Pieces, lost: (offset: number, length: number) => void): Promise<void> {
    try {
      await this.#image.read(offset, pieces);
    } catch (cause) {
      refuseOthers(cause);
      const length = totalBytes(pieces);
      if (length <= SECTOR) {
        fillPieces(pieces, 0);
        lost(offset, length);
        return;
      }
      const half = Math.ceil(length / 2 / SECTOR) * SECTOR;
      await this.#read(offset, cutPieces(pieces, 0, half), lost);
      await this.#read(offset + half, cutPieces(pieces, half, length - half), lost);
    }
  }

  async status(offset: number, length: number): Promise<Extent> {
    try {
      return await this.#image.status(offset, length);
    } catch (cause) {
      refuseOthers(cause);
      const most = UNKNOWN_BYTES - (offset % UNKNOWN_BYTES);
      return { length: Math.min(length, most), zero: false, data: true, present: true, depth: 0 };
    }
  }
}

/** Only what the storage itself fails with is gone over. */
function refuseOthers(cause: unknown): void {
  if (!(cause instanceof StorageError)) throw cause;
}
