/** Writes of whole clusters in compressed form; several share a cluster of the store. */

import { Turns } from "../gate.ts";
import { compress } from "./compression.ts";
import type { Qcow2Image } from "./qcow2-image.ts";

export class CompressedWrites {
  readonly #image: Qcow2Image;
  readonly #turns = new Turns();
  /** Where the next bytes go: behind the last ones in their cluster. */
  #next = 0;
  /** How often clusters had been given up then: the same cluster may be among those that were since. */
  #frees = 0;

  constructor(image: Qcow2Image) {
    this.#image = image;
  }

  /** Writes one cluster; what does not get shorter is written as it is. */
  async write(offset: number, cluster: Uint8Array): Promise<void> {
    const { metadata, claims } = this.#image;
    const { mapping, clusterSize } = metadata;
    const stored = await compress(cluster, metadata.header.compression);
    if (stored === undefined) {
      await this.#image.writeInside(offset, [cluster.subarray(0, this.#image.sizeBytes - offset)]);
      return;
    }
    await metadata.room();
    const index = Math.floor(offset / clusterSize);
    const release = await claims.take(index, index);
    try {
      await metadata.ensureTable(mapping.tableIndex(offset));
      const place = await this.#turns.take(() => this.#place(stored.length));
      await metadata.store.write(place, [stored]);
      while (mapping.slice(offset) === undefined) await mapping.load(offset);
      metadata.freeEntry(offset);
      mapping.setCompressed(offset, { offset: place, length: stored.length });
      metadata.wrote();
    } finally {
      release();
    }
  }

  async #place(length: number): Promise<number> {
    const { metadata } = this.#image;
    const { refcounts, clusterSize } = metadata;
    const left = (clusterSize - (this.#next % clusterSize)) % clusterSize;
    const current = Math.floor(this.#next / clusterSize);
    const shares = left > 0 && this.#frees === metadata.frees && (await refcounts.get(current)) < refcounts.most;
    this.#frees = metadata.frees;
    if (shares && left >= length) {
      await refcounts.add(current, 1);
      this.#next += length;
      return this.#next - length;
    }
    const { offset } = await refcounts.allocate(1);
    // It may begin in one cluster and end in the next.
    const begins = shares && offset === (current + 1) * clusterSize;
    if (begins) await refcounts.add(current, 1);
    const place = begins ? this.#next : offset;
    this.#next = place + length;
    return place;
  }
}
