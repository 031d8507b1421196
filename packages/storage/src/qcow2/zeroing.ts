/** Zeros without writing them, and giving space back. */

import { notFast } from "../errors.ts";
import { Kind } from "./mapping.ts";
import type { Qcow2Image } from "./qcow2-image.ts";

const ALL_SUBCLUSTERS = 0xffffffff;
/** What zeros are written from where an entry cannot say them. */
const ZEROS = new Uint8Array(64 << 10);

export class Zeroing {
  readonly #image: Qcow2Image;

  constructor(image: Qcow2Image) {
    this.#image = image;
  }

  /** Whole clusters are given up; what is left of the range at both ends stays. They read as zeros afterwards. */
  async discard(offset: number, length: number): Promise<void> {
    const { header, clusterSize } = this.#image.metadata;
    const start = Math.ceil(offset / clusterSize) * clusterSize;
    // The last cluster of the disk is whole with the disk's end.
    const all = offset + length >= this.#image.sizeBytes;
    const end = all ? Math.ceil((offset + length) / clusterSize) * clusterSize : offset + length;
    // In version 2, what is given up would show the backing image again.
    if (header.version === 2 && this.#image.backing !== undefined) return;
    for (let at = start; at + clusterSize <= end; )
      at += await this.#clear(at, end - at - ((end - at) % clusterSize), true);
  }

  /** With `onlyFast`, what would be written is at most what does not fill a cluster at both ends. */
  async zero(offset: number, length: number, mayUnmap: boolean, onlyFast = false): Promise<void> {
    const { header, mapping } = this.#image.metadata;
    const { unit } = mapping;
    const end = offset + length;
    const entries = header.version === 3 || (mayUnmap && this.#image.backing === undefined);
    const size = this.#image.sizeBytes;
    const start = Math.ceil(offset / unit) * unit;
    // What the disk ends with is whole with the disk's end.
    const stop = end >= size ? Math.ceil(end / unit) * unit : end - (end % unit);
    if (!entries && onlyFast) throw notFast(this.#image.name);
    if (!entries || start >= Math.min(stop, end)) return this.#write(offset, end);
    await this.#write(offset, start);
    for (let at = start; at < stop; ) at += await this.#clear(at, stop - at, mayUnmap);
    await this.#write(Math.min(stop, end), end);
  }

  /** Entries of the clusters or subclusters from `offset` on, in one slice, say zero; returns how many bytes they are. */
  async #clear(offset: number, most: number, mayUnmap: boolean): Promise<number> {
    const image = this.#image;
    const { metadata } = image;
    const { mapping, clusterSize, header } = metadata;
    await metadata.room();
    const index = mapping.tableIndex(offset);
    if (mapping.tableAt(index) === 0 && image.backing === undefined) {
      return Math.min(most, mapping.tableSpan - (offset % mapping.tableSpan));
    }
    const length = Math.min(most, mapping.sliceEnd(offset) - offset);
    const end = offset + length;
    const release = await image.claims.take(Math.floor(offset / clusterSize), Math.floor((end - 1) / clusterSize));
    try {
      await metadata.ensureTable(index);
      while (mapping.slice(offset) === undefined) await mapping.load(offset);
      let at = offset;
      for (; at < end; at = at - (at % clusterSize) + clusterSize) {
        const part = Math.min(end - at, clusterSize - (at % clusterSize));
        if (part === clusterSize) this.#clearCluster(at, mayUnmap, header.version);
        else if (!this.#clearSubclusters(at, part)) break;
      }
      if (at > offset) return Math.min(at, end) - offset;
    } finally {
      release();
    }
    // Part of a cluster that has to move, or is compressed.
    const part = Math.min(end - offset, clusterSize - (offset % clusterSize));
    await this.#write(offset, Math.min(offset + part, image.sizeBytes));
    return part;
  }

  #clearCluster(at: number, mayUnmap: boolean, version: number): void {
    const { metadata, backing } = this.#image;
    const { mapping, clusterSize } = metadata;
    const run = mapping.run(at, clusterSize)!;
    if (run.kind === Kind.ABSENT && run.length === clusterSize && backing === undefined) return;
    const keeps = !mayUnmap && run.copied && run.kind !== Kind.COMPRESSED && run.host !== 0;
    if (version === 2) {
      metadata.freeEntry(at);
      mapping.setEntry(at, 0);
    } else if (keeps) {
      mapping.setEntry(at, run.host, { zeros: ALL_SUBCLUSTERS });
    } else {
      metadata.freeEntry(at);
      mapping.setEntry(at, 0, { zeros: ALL_SUBCLUSTERS });
    }
  }

  /** Part of a cluster: false where its entry cannot say that. */
  #clearSubclusters(at: number, length: number): boolean {
    const { mapping } = this.#image.metadata;
    const run = mapping.run(at, length)!;
    if (run.kind === Kind.COMPRESSED || (run.host !== 0 && !run.copied)) return false;
    const { zeros, stored } = mapping.masks(at);
    const mask = mapping.mask(at, length);
    const cluster = run.host === 0 ? 0 : run.host - (at % mapping.clusterSize);
    mapping.setEntry(at, cluster, { zeros: (zeros | mask) >>> 0, stored: (stored & ~mask) >>> 0 });
    return true;
  }

  /** Writes zeros where there is something else. */
  async #write(from: number, to: number): Promise<void> {
    for (let at = from; at < to; ) {
      const { zero, length } = await this.#image.statusInside(at, to - at);
      for (let left = zero ? 0 : length; left > 0; left -= ZEROS.length) {
        await this.#image.writeInside(at + length - left, [ZEROS.subarray(0, Math.min(left, ZEROS.length))]);
      }
      at += length;
    }
  }
}
