/** A persistent bitmap's content ("Bitmap table", "Bitmap data"), read as it is asked for. */

import { StorageError } from "../../errors.ts";
import type { Store } from "../../image.ts";
import { Pages } from "../../import/pages.ts";
import { getU64, viewOf } from "../layout.ts";
import type { Qcow2Image } from "../qcow2-image.ts";
import { readStored } from "../stored.ts";
import { BitmapFlag, readBitmapDirectory } from "./directory.ts";

/** A table entry without a cluster says by this that all of its bits are set. */
const ALL_ONES = 1;
/** Bytes of bits that one question goes through. */
const MOST_BYTES = 1 << 20;
const CHUNK_BYTES = 4096;
const ZEROS = new Uint8Array(CHUNK_BYTES);
const ONES = new Uint8Array(CHUNK_BYTES).fill(255);

export interface BitRun {
  /** Bytes of the disk. */
  length: number;
  set: boolean;
}

export class Bitmap {
  /** Bytes of the disk for each bit. */
  readonly granularity: number;
  readonly #pages: Pages;
  readonly #table: DataView;
  readonly #clusterSize: number;

  private constructor(store: Store, table: Uint8Array, clusterSize: number, granularity: number) {
    this.#pages = new Pages(store);
    this.#table = viewOf(table);
    this.#clusterSize = clusterSize;
    this.granularity = granularity;
  }

  /** One that whoever wrote last has not stored is refused: it says too little. */
  static async open(image: Qcow2Image, name: string): Promise<Bitmap> {
    const { header } = image;
    const { store } = image.metadata;
    const refuse = (why: string) => new StorageError("STORAGE_OPEN", `${image.name}: ${why}`);
    const entry = (await readBitmapDirectory(store, header))?.entries.find((one) => one.name === name);
    if (entry === undefined) throw refuse(`it has no bitmap ${JSON.stringify(name)}`);
    if ((entry.flags & BitmapFlag.IN_USE) !== 0) {
      throw refuse(`the bitmap ${JSON.stringify(name)} was not stored by whoever wrote last: it is worth nothing`);
    }
    const clusterSize = 2 ** header.clusterBits;
    const granularity = 2 ** entry.granularityBits;
    if (entry.tableSize * clusterSize * 8 * granularity < header.sizeBytes) {
      throw refuse(`the bitmap ${JSON.stringify(name)} is too short for the disk`);
    }
    const table = new Uint8Array(entry.tableSize * 8);
    await readStored(store, entry.tableOffset, table);
    return new Bitmap(store, table, clusterSize, granularity);
  }

  /** The first run from `offset` on, as far as one question goes. */
  async run(offset: number, length: number): Promise<BitRun> {
    const end = Math.ceil((offset + length) / this.granularity);
    let at = Math.floor(offset / this.granularity);
    let set: boolean | undefined;
    let same = true;
    for (let looked = 0; same && at < end && looked < MOST_BYTES; ) {
      const from = Math.floor(at / 8);
      const bytes = await this.#bytes(from);
      looked += bytes.length;
      const stop = Math.min(end, (from + bytes.length) * 8);
      while (same && at < stop) {
        const byte = bytes[Math.floor(at / 8) - from]!;
        const bit = ((byte >> (at % 8)) & 1) === 1;
        set ??= bit;
        same = bit === set;
        // Bits of one byte are looked at one by one unless all of them continue the run.
        if (same) at += at % 8 === 0 && byte === (set ? 255 : 0) ? 8 : 1;
      }
    }
    return { length: Math.min(length, at * this.granularity - offset), set: set === true };
  }

  /** Bits from the `index`th byte on: one byte at least. */
  async #bytes(index: number): Promise<Uint8Array> {
    const entry = getU64(this.#table, Math.floor(index / this.#clusterSize) * 8);
    const inside = index % this.#clusterSize;
    const length = Math.min(CHUNK_BYTES, this.#clusterSize - inside);
    const cluster = entry - (entry % 512);
    if (cluster === 0) return (entry % 2 === ALL_ONES ? ONES : ZEROS).subarray(0, length);
    return await this.#pages.bytes(cluster + inside, length);
  }
}
