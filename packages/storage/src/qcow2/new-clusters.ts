/** Writes that need space: clusters that are not there yet, or that others count on too. */

import { cutPieces, type Pieces } from "../file/pieces.ts";
import { Kind, type MappedRun } from "./mapping.ts";
import type { Qcow2Image } from "./qcow2-image.ts";

/** So many bytes are read and written again at once at most, whatever the cluster size. */
const MOST_BYTES = 4 << 20;
const ALL_SUBCLUSTERS = 0xffffffff;

export class NewClusters {
  readonly #image: Qcow2Image;

  constructor(image: Qcow2Image) {
    this.#image = image;
  }

  /** Writes the beginning of `pieces`; returns how many bytes, 0 if no new space is needed any more. */
  async write(offset: number, pieces: Pieces, length: number): Promise<number> {
    const { metadata, claims } = this.#image;
    const { mapping, clusterSize } = metadata;
    await metadata.room();
    const end = Math.min(offset + Math.min(length, MOST_BYTES), mapping.sliceEnd(offset));
    const release = await claims.take(Math.floor(offset / clusterSize), Math.floor((end - 1) / clusterSize));
    try {
      await metadata.ensureTable(mapping.tableIndex(offset));
      const run = await this.#run(offset, end - offset);
      if (run.kind === Kind.DATA && run.copied) return 0;
      const room = run.copied && (run.kind === Kind.ROOM || run.kind === Kind.ZERO_ROOM);
      return room ? await this.#fill(run, offset, pieces) : await this.#replace(run, offset, pieces);
    } finally {
      release();
    }
  }

  /**
   * Holds itself what it has from below at `offset`, whose content stays the same; returns how many bytes of `length` are done.
   * Without `zeros`, what is zero below stays absent.
   */
  async pull(offset: number, length: number, zeros: boolean): Promise<number> {
    const { metadata, claims } = this.#image;
    const { mapping, clusterSize, header } = metadata;
    await metadata.room();
    const end = Math.min(offset + Math.min(length, MOST_BYTES), mapping.sliceEnd(offset));
    const release = await claims.take(Math.floor(offset / clusterSize), Math.floor((end - 1) / clusterSize));
    try {
      const run = await this.#run(offset, end - offset);
      if (run.kind !== Kind.ABSENT && run.kind !== Kind.ROOM) return run.length;
      const below = await this.#image.statusInside(offset, run.length);
      if (below.zero && !zeros) return below.length;
      await metadata.ensureTable(mapping.tableIndex(offset));
      const whole = offset % clusterSize === 0 ? below.length - (below.length % clusterSize) : 0;
      if (below.zero && whole > 0 && run.kind === Kind.ABSENT && header.version === 3) {
        await this.#loaded(offset);
        for (let at = offset; at < offset + whole; at += clusterSize) {
          mapping.setEntry(at, 0, { zeros: ALL_SUBCLUSTERS });
        }
        return whole;
      }
      const bytes = new Uint8Array(below.length);
      await this.#image.readInside(offset, [bytes]);
      const part = { ...run, length: below.length };
      const room = run.copied && run.kind === Kind.ROOM;
      return room ? await this.#fill(part, offset, [bytes]) : await this.#replace(part, offset, [bytes]);
    } finally {
      release();
    }
  }

  async #run(offset: number, length: number): Promise<MappedRun> {
    const { mapping } = this.#image.metadata;
    for (;;) {
      const run = mapping.run(offset, length);
      if (run !== undefined) return run;
      await mapping.load(offset);
    }
  }

  /** The entry's slice may have been forgotten meanwhile. */
  async #loaded(offset: number): Promise<void> {
    const { mapping } = this.#image.metadata;
    while (mapping.slice(offset) === undefined) await mapping.load(offset);
  }

  /** The room is there: it gets its content, and then its entry says so. */
  async #fill(run: MappedRun, offset: number, pieces: Pieces): Promise<number> {
    const { mapping, clusterSize } = this.#image.metadata;
    const { length } = run;
    const head = await this.#around(run.kind, offset - (offset % mapping.unit), offset, false);
    const tail = await this.#around(run.kind, offset + length, roundUpTo(offset + length, mapping.unit), false);
    await this.#image.writeInPlace(run.host - bytesOf(head), [...head, ...cutPieces(pieces, 0, length), ...tail]);
    await this.#loaded(offset);
    for (let at = offset; at < offset + length; at = at - (at % clusterSize) + clusterSize) {
      const cluster = run.host - (offset % clusterSize) + (at - (at % clusterSize)) - (offset - (offset % clusterSize));
      const part = Math.min(offset + length - at, clusterSize - (at % clusterSize));
      if (mapping.entryBytes === 8) {
        mapping.setEntry(at, cluster);
      } else {
        const { zeros, stored } = mapping.masks(at);
        const mask = mapping.mask(at, part);
        mapping.setEntry(at, cluster, { zeros: (zeros & ~mask) >>> 0, stored: (stored | mask) >>> 0 });
      }
    }
    return length;
  }

  /** New clusters take the place of what was there, which is given up. */
  async #replace(run: MappedRun, offset: number, pieces: Pieces): Promise<number> {
    const { metadata } = this.#image;
    const { mapping, refcounts, clusterSize, store } = metadata;
    const first = offset - (offset % clusterSize);
    const wanted = Math.ceil((offset + run.length - first) / clusterSize);
    const isNew = run.host === 0 && run.kind !== Kind.COMPRESSED;
    // A subcluster that is not written stays as it is, unless it would have to move.
    const unit = isNew ? mapping.unit : clusterSize;
    const whollyNew = refcounts.endBytes;
    const got = await refcounts.allocate(wanted);
    const firstHost = got.offset / clusterSize;
    const length = Math.min(offset + run.length, first + got.count * clusterSize) - offset;
    try {
      // Behind the end of everything there are zeros already.
      const fresh = got.offset >= whollyNew;
      // A whole cluster of subclusters may be held in several ways.
      const kind = unit === mapping.unit ? run.kind : Kind.DATA;
      const head = await this.#around(kind, offset - (offset % unit), offset, fresh);
      const tail = await this.#around(kind, offset + length, roundUpTo(offset + length, unit), fresh);
      const host = got.offset + (offset % clusterSize) - bytesOf(head);
      await store.write(host, [...head, ...cutPieces(pieces, 0, length), ...tail]);
    } catch (cause) {
      metadata.free(firstHost, got.count);
      throw cause;
    }
    // Space that a shorter run left over goes back.
    const used = Math.ceil((offset + length - first) / clusterSize);
    metadata.free(firstHost + used, got.count - used);
    await this.#loaded(offset);
    if (mapping.entryBytes === 8) {
      // Where nothing was, nothing is given up.
      for (let index = isNew ? used : 0; index < used; index++) metadata.freeEntry(first + index * clusterSize);
      mapping.setData(first, got.offset, used);
      return length;
    }
    for (let index = 0; index < used; index++) {
      const at = Math.max(offset, first + index * clusterSize);
      const cluster = got.offset + index * clusterSize;
      const part = Math.min(offset + length - at, clusterSize - (at % clusterSize));
      const mask = isNew ? mapping.mask(at, part) : ALL_SUBCLUSTERS;
      const { zeros } = mapping.masks(at);
      metadata.freeEntry(at);
      mapping.setEntry(at, cluster, { zeros: isNew ? (zeros & ~mask) >>> 0 : 0, stored: mask });
    }
    return length;
  }

  /** What stands beside the written bytes in the same unit: nothing where zeros are there already. */
  async #around(kind: Kind, from: number, to: number, fresh: boolean): Promise<Uint8Array[]> {
    const image = this.#image;
    if (from >= to) return [];
    const zeros =
      kind === Kind.ZERO ||
      kind === Kind.ZERO_ROOM ||
      (kind === Kind.ABSENT && (image.backing?.sizeBytes ?? 0) <= from);
    if (zeros && fresh) return [];
    const bytes = new Uint8Array(to - from);
    if (!zeros) await image.readInside(from, [bytes]);
    return [bytes];
  }
}

function bytesOf(pieces: Pieces): number {
  return pieces[0]?.length ?? 0;
}

function roundUpTo(value: number, unit: number): number {
  return Math.ceil(value / unit) * unit;
}
