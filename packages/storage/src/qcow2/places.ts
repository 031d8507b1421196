/** Places for what is written past this image, straight into its file: new clusters, whose entries come when their content is there. */

import { HostFile } from "../file/host-file.ts";
import { Kind } from "./mapping.ts";
import type { Qcow2Image } from "./qcow2-image.ts";

export interface Place {
  /** Guest bytes, in whole clusters. */
  readonly start: number;
  readonly length: number;
  /** Where they belong in the file. */
  readonly host: number;
  /** Nothing was ever written there: it reads as zeros. */
  readonly fresh: boolean;
  /** Its space is set aside: what is not written is to be given back. */
  readonly reserved: boolean;
  /** Lets others at these guest bytes, and at the image as a whole. */
  readonly release: () => void;
}

export class Places {
  readonly fd: number;
  readonly clusterSize: number;
  readonly #image: Qcow2Image;
  readonly #file: HostFile;

  private constructor(image: Qcow2Image, file: HostFile, fd: number) {
    this.fd = fd;
    this.clusterSize = image.metadata.clusterSize;
    this.#image = image;
    this.#file = file;
  }

  /** Undefined where the image is not in a file that others can write, or has more to say of a cluster than where it is. */
  static async in(image: Qcow2Image): Promise<Places | undefined> {
    const { store, mapping } = image.metadata;
    if (image.readOnly || !(store instanceof HostFile) || store.fd === undefined || mapping.entryBytes !== 8) return;
    await image.bitmaps.load();
    return new Places(image, store, store.fd);
  }

  /**
   * Takes a place for guest bytes from `start` on, where a cluster begins: for one cluster at least, and at most what fits into
   * `length`. Undefined where something is already. All of it is kept or dropped, and then released. `reserve`: most of it is going
   * to be written.
   */
  async take(start: number, length: number, reserve: boolean): Promise<Place | undefined> {
    const { gate, claims, metadata, bitmaps } = this.#image;
    const { mapping, refcounts, clusterSize } = metadata;
    const end = Math.min(start + length, mapping.sliceEnd(start));
    while (gate.closed !== undefined) await gate.closed;
    const inside = gate.enter();
    using undo = new DisposableStack();
    undo.defer(() => gate.leave(inside));
    await metadata.room();
    const first = start / clusterSize;
    let unclaim = await claims.take(first, Math.floor((end - 1) / clusterSize));
    undo.defer(() => unclaim());
    await metadata.ensureTable(mapping.tableIndex(start));
    let run = mapping.run(start, end - start);
    for (; run === undefined; run = mapping.run(start, end - start)) await mapping.load(start);
    const wanted = Math.floor(run.length / clusterSize);
    if (run.kind !== Kind.ABSENT || wanted === 0) return undefined;
    const whollyNew = refcounts.endBytes;
    const { offset: host, count } = await refcounts.allocate(wanted);
    // The rest is somebody else's, or the next place's; nobody comes between.
    unclaim();
    unclaim = await claims.take(first, first + count - 1);
    bitmaps.mark(start, count * clusterSize);
    const fresh = host >= whollyNew;
    const reserved = fresh && reserve;
    if (reserved) this.#file.reserve(host, count * clusterSize);
    const held = undo.move();
    const release = () => held.dispose();
    return { start, length: count * clusterSize, host, fresh, reserved, release };
  }

  /** Whole clusters of a place have their content. */
  async keep({ start, host }: Place, at: number, length: number): Promise<void> {
    const { metadata } = this.#image;
    const { mapping, clusterSize } = metadata;
    while (mapping.slice(at) === undefined) await mapping.load(at);
    mapping.setData(at, host + (at - start), length / clusterSize);
    this.#file.grown(host + (at - start) + length);
    metadata.wrote();
  }

  /** They are not needed. No entry ever led there, so they can be given out again at once. */
  async drop(place: Place, at: number, length: number): Promise<void> {
    const { refcounts, clusterSize } = this.#image.metadata;
    const { start, host } = place;
    await this.leaveOut(place, at, length);
    const first = (host + (at - start)) / clusterSize;
    for (let cluster = first; cluster < first + length / clusterSize; cluster++) await refcounts.add(cluster, -1);
  }

  /** Nothing was written here: its space goes back. */
  async leaveOut({ start, host, reserved }: Place, at: number, length: number): Promise<void> {
    if (reserved) await this.#file.discard(host + (at - start), length);
  }

  /** All places are released, and nobody writes the file. */
  end(): void {
    this.#file.trim();
  }
}
