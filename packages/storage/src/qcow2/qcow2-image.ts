/** A qcow2 image as a disk. */

import { StorageError } from "../errors.ts";
import { cutPieces, fillPieces, type Pieces, scatter, totalBytes } from "../file/pieces.ts";
import { Claims, Gate } from "../gate.ts";
import type { Extent, Image, Store } from "../image.ts";
import { settled } from "../settled.ts";
import { PersistentBitmaps } from "./bitmaps/persistent.ts";
import { CompressedWrites } from "./compressed-writes.ts";
import { decompress } from "./compression.ts";
import type { Header } from "./header.ts";
import { Limit } from "./layout.ts";
import { Kind, type MappedRun } from "./mapping.ts";
import { type CacheSizes, Metadata, overwrites, type SnapshotTables } from "./metadata.ts";
import { NewClusters } from "./new-clusters.ts";
import type { Preallocation } from "./preallocate.ts";
import { Zeroing } from "./zeroing.ts";

export interface Qcow2Parts {
  store: Store;
  header: Header;
  l1: Uint8Array<ArrayBuffer>;
  refcountTable: Uint8Array<ArrayBuffer>;
  snapshotTables: SnapshotTables;
  backing?: Image | undefined;
  cacheSizes?: CacheSizes;
}

export class Qcow2Image implements Image {
  readonly format = "qcow2";
  readonly metadata: Metadata;
  readonly gate = new Gate();
  /** Guest clusters whose entries somebody is changing. */
  readonly claims = new Claims();
  backing: Image | undefined;
  /** What follows its writes. */
  readonly bitmaps: PersistentBitmaps;
  #closed = false;
  readonly #store: Store;
  readonly #newClusters: NewClusters;
  readonly #zeroing: Zeroing;
  readonly #compressedWrites: CompressedWrites;

  constructor({ store, header, l1, refcountTable, snapshotTables, backing, cacheSizes = {} }: Qcow2Parts) {
    this.#store = store;
    this.backing = backing;
    this.metadata = new Metadata({ store, header, gate: this.gate, l1, refcountTable, snapshotTables, cacheSizes });
    this.bitmaps = new PersistentBitmaps(this);
    this.#newClusters = new NewClusters(this);
    this.#zeroing = new Zeroing(this);
    this.#compressedWrites = new CompressedWrites(this);
  }

  get name(): string {
    return this.#store.name;
  }

  get readOnly(): boolean {
    return this.#store.readOnly;
  }

  get header(): Header {
    return this.metadata.header;
  }

  get sizeBytes(): number {
    const { sizeBytes } = this.metadata.header;
    return sizeBytes - (sizeBytes % 512);
  }

  async read(offset: number, pieces: Pieces): Promise<void> {
    while (this.gate.closed !== undefined) await this.gate.closed;
    const inside = this.gate.enter();
    try {
      const length = totalBytes(pieces);
      const run = this.metadata.mapping.run(offset, length);
      // What most reads are: one run, whose place is known.
      if (run?.kind === Kind.DATA && run.length === length) await this.#store.read(run.host, pieces);
      else await this.readInside(offset, pieces, length);
    } finally {
      this.gate.leave(inside);
    }
  }

  /** Reads on behalf of a request that is past the gate; what is behind the disk's end are zeros. */
  async readInside(offset: number, pieces: Pieces, length = totalBytes(pieces)): Promise<void> {
    const { mapping } = this.metadata;
    const parts: Promise<void>[] = [];
    const end = Math.min(offset + length, this.metadata.header.sizeBytes);
    let at = offset;
    try {
      while (at < end) {
        const run = mapping.run(at, end - at);
        if (run === undefined) {
          await mapping.load(at);
          continue;
        }
        parts.push(this.#readRun(run, at, cutPieces(pieces, at - offset, run.length)));
        at += run.length;
      }
    } finally {
      await settled(parts);
    }
    if (at < offset + length) fillPieces(cutPieces(pieces, at - offset, length), 0);
  }

  async #readRun({ kind, host, length }: MappedRun, offset: number, pieces: Pieces): Promise<void> {
    if (kind === Kind.DATA) return this.#store.read(host, pieces);
    if (kind === Kind.COMPRESSED) return this.#readCompressed(offset, pieces);
    if (kind === Kind.ZERO || kind === Kind.ZERO_ROOM) return fillPieces(pieces, 0);
    const { backing } = this;
    const below = backing === undefined ? 0 : Math.max(0, Math.min(length, backing.sizeBytes - offset));
    if (below > 0) await backing!.read(offset, below === length ? pieces : cutPieces(pieces, 0, below));
    if (below < length) fillPieces(cutPieces(pieces, below, length - below), 0);
  }

  async #readCompressed(offset: number, pieces: Pieces): Promise<void> {
    const { mapping, clusterSize, header } = this.metadata;
    const place = mapping.compressed(offset);
    if (place.offset + place.length > Limit.OFFSET) {
      throw mapping.corrupt(`the compressed cluster of guest offset ${offset} is said to be at ${place.offset}`);
    }
    const stored = new Uint8Array(place.length);
    await this.#store.read(place.offset, [stored]);
    let content: Uint8Array;
    try {
      content = await decompress(stored, clusterSize, header.compression);
    } catch (cause) {
      const why = (cause as Error).message;
      throw mapping.corrupt(`the compressed cluster of guest offset ${offset} cannot be read: ${why}`);
    }
    const start = offset % clusterSize;
    scatter(content.subarray(start, start + totalBytes(pieces)), pieces);
  }

  write(offset: number, pieces: Pieces): Promise<void> {
    const { metadata } = this;
    const length = totalBytes(pieces);
    return this.#change(offset, length, () => {
      const run = metadata.mapping.run(offset, length);
      if (run?.kind !== Kind.DATA || !run.copied || run.length !== length) return this.writeInside(offset, pieces);
      // What most writes are: to one run, whose place is known. Each wait more would cost as much as the rest of the work.
      return this.writeInPlace(run.host, pieces).then(() => metadata.wrote());
    });
  }

  /** Writes on behalf of a request that is past the gate. */
  async writeInside(offset: number, pieces: Pieces): Promise<void> {
    const { mapping } = this.metadata;
    const length = totalBytes(pieces);
    const parts: Promise<void>[] = [];
    try {
      for (let at = offset; at < offset + length; ) {
        const left = offset + length - at;
        const run = mapping.run(at, left);
        if (run === undefined) {
          await mapping.load(at);
        } else if (run.kind === Kind.DATA && run.copied) {
          parts.push(
            this.writeInPlace(run.host, run.length === length ? pieces : cutPieces(pieces, at - offset, run.length)),
          );
          at += run.length;
        } else {
          at += await this.#newClusters.write(at, cutPieces(pieces, at - offset, left), left);
        }
      }
    } finally {
      await settled(parts);
    }
    this.metadata.wrote();
  }

  /** Writes one cluster in compressed form, `offset` being its beginning; the disk's last may be shorter. */
  async writeCompressed(offset: number, cluster: Uint8Array): Promise<void> {
    const { clusterSize } = this.metadata;
    if (offset % clusterSize !== 0) throw new Error(`a compressed cluster begins at a multiple of ${clusterSize}`);
    const whole = cluster.length === clusterSize ? cluster : new Uint8Array(clusterSize);
    if (whole !== cluster) whole.set(cluster);
    await this.#change(offset, cluster.length, () => this.#compressedWrites.write(offset, whole));
  }

  /** Writes where the image says that guest data is; never over the image's own tables, whatever it says. */
  writeInPlace(host: number, pieces: Pieces): Promise<void> {
    const { metadata } = this;
    const end = Math.ceil(metadata.refcounts.endBytes / metadata.clusterSize) * metadata.clusterSize;
    if (host + totalBytes(pieces) > end) {
      const what = `guest data is said to be at ${host}, behind the file's end: repair the image (lodge image check --repair)`;
      return Promise.reject(metadata.mapping.corrupt(what));
    }
    const last = Math.floor((host + totalBytes(pieces) - 1) / metadata.clusterSize);
    for (let cluster = Math.floor(host / metadata.clusterSize); cluster <= last; cluster++) {
      if (metadata.isMetadata(cluster)) return Promise.reject(overwrites(this.name, host));
    }
    return this.#store.write(host, pieces);
  }

  /**
   * Holds itself what it has from below in this range; without `zeros`, only what is not zero there. The disk's content stays
   * the same, also under writes that come meanwhile.
   */
  async pull(offset: number, length: number, zeros: boolean): Promise<void> {
    await this.#atWork(async () => {
      for (let at = offset; at < offset + length; ) {
        at += await this.#newClusters.pull(at, offset + length - at, zeros);
      }
      this.metadata.wrote();
    });
  }

  async #noteCorruption(cause: unknown): Promise<void> {
    if (cause instanceof StorageError && cause.code === "STORAGE_CORRUPT") await this.metadata.markCorrupt();
  }

  async flush(): Promise<void> {
    if (!this.readOnly) await this.metadata.commit();
  }

  async discard(offset: number, length: number): Promise<void> {
    await this.#change(offset, length, () => this.#zeroing.discard(offset, length));
  }

  async writeZeroes(offset: number, length: number, mayUnmap: boolean, onlyFast = false): Promise<void> {
    await this.#change(offset, length, () => this.#zeroing.zero(offset, length, mayUnmap, onlyFast));
  }

  /** Zeros on behalf of work that is past the gate. */
  zeroInside(offset: number, length: number): Promise<void> {
    return this.#zeroing.zero(offset, length, true);
  }

  /** Not asynchronous itself: that would be a wait more for each write. */
  #change(offset: number, length: number, work: () => Promise<void>): Promise<void> {
    const marked = () => {
      this.bitmaps.mark(offset, length);
      return work();
    };
    if (this.readOnly || this.bitmaps.loaded) return this.#atWork(marked);
    return this.bitmaps.load().then(() => this.#atWork(marked));
  }

  async #atWork(work: () => Promise<void>): Promise<void> {
    this.#refuseReadOnly();
    while (this.gate.closed !== undefined) await this.gate.closed;
    const inside = this.gate.enter();
    try {
      await work();
    } catch (cause) {
      await this.#noteCorruption(cause);
      throw cause;
    } finally {
      this.gate.leave(inside);
    }
  }

  async status(offset: number, length: number): Promise<Extent> {
    while (this.gate.closed !== undefined) await this.gate.closed;
    const inside = this.gate.enter();
    try {
      return await this.statusInside(offset, length);
    } finally {
      this.gate.leave(inside);
    }
  }

  /** What a request that is past the gate asks. */
  async statusInside(offset: number, length: number): Promise<Extent> {
    const { mapping } = this.metadata;
    let run = mapping.run(offset, length);
    for (; run === undefined; run = mapping.run(offset, length)) await mapping.load(offset);
    const here = { length: run.length, depth: 0, present: true, zero: false, data: true };
    switch (run.kind) {
      case Kind.DATA:
        return { ...here, offset: run.host, name: this.name };
      case Kind.COMPRESSED:
        return { ...here, compressed: true };
      case Kind.ZERO:
      case Kind.ZERO_ROOM:
        return { ...here, zero: true, data: false };
      default:
        return this.#statusBelow(offset, run.length);
    }
  }

  async #statusBelow(offset: number, length: number): Promise<Extent> {
    const { backing } = this;
    if (backing === undefined || offset >= backing.sizeBytes) {
      return { length, depth: 0, present: false, zero: true, data: false };
    }
    const below = await backing.status(offset, Math.min(length, backing.sizeBytes - offset));
    return { ...below, depth: below.depth + 1 };
  }

  async resize(sizeBytes: number, preallocation: Preallocation = "off"): Promise<void> {
    this.#refuseReadOnly();
    const { resizeQcow2 } = await import("./resize.ts");
    await this.bitmaps.load();
    await this.alone(async () => {
      await resizeQcow2(this, sizeBytes, preallocation);
      this.bitmaps.resize();
    });
  }

  /** Works while no request is at work, on an image that is stored as it is. */
  alone<T>(work: () => Promise<T>): Promise<T> {
    return this.gate.alone(async () => {
      await this.metadata.settle();
      return work();
    });
  }

  async close(): Promise<void> {
    if (this.#closed) return;
    this.#closed = true;
    try {
      if (!this.readOnly) await this.alone(() => this.bitmaps.store());
    } finally {
      await this.#store.close();
      await this.backing?.close();
    }
  }

  #refuseReadOnly(): void {
    if (this.readOnly) throw new StorageError("STORAGE_IO", `${this.name}: write failed: the image is read-only`);
  }
}
