/** Copying what lies as it is in files into files: by threads that JavaScript only tells what to copy, and asks afterwards. */

import {
  COPIED_BLOCK_BYTES,
  CopyRooms,
  canCopyParts,
  MOST_COPIED_BYTES,
  PartCopier,
  Zeros,
} from "@lodge/linux/part-copier";
import { RangeCopier } from "@lodge/linux/range-copier";
import { HostFile } from "../file/host-file.ts";
import type { Extent, Image, Store } from "../image.ts";
import { type Place, Places } from "../qcow2/places.ts";
import { Qcow2Image } from "../qcow2/qcow2-image.ts";
import { RawImage } from "../raw/raw-image.ts";

/** Threads that copy. While one writes, another reads; Linux lets one write a file at a time. */
const THREADS = 2;
/** Parts that are told and asked about at once; fewer, as long as nothing is known of what is in them. */
const PARTS = 64;
const FIRST_PARTS = 8;
/** What is left to others at once, where something is already. */
const LEFT_BYTES = 8 << 20;

export interface Held extends Extent {
  start: number;
}

export interface FileCopyOptions {
  /** Zeros are looked for. */
  sparse: boolean;
  /** The target may hold something else already. */
  overZeros: boolean;
  /** What of the source is wanted. */
  wanted: (extent: Held) => boolean;
  signal?: AbortSignal | undefined;
  /** Told of bytes that are done. */
  copied: (bytes: number) => void;
  /** Threads at most. */
  parallel: number;
  /** The kernel copies, and where it can lets both files have the same blocks; zeros are not looked for. */
  offload: boolean;
}

/** Where a target's content goes in its file. */
interface Target {
  readonly fd: number;
  readonly clusterSize: number;
  take(start: number, length: number, reserve: boolean): Promise<Place | undefined>;
  keep(place: Place, at: number, length: number): Promise<void>;
  drop(place: Place, at: number, length: number): Promise<void>;
  leaveOut(place: Place, at: number, length: number): Promise<void>;
  end(): void;
}

async function targetOf(image: Image, { overZeros }: FileCopyOptions): Promise<Target | undefined> {
  if (image instanceof Qcow2Image) return Places.in(image);
  if (!(image instanceof RawImage) || image.readOnly || overZeros) return undefined;
  const { store } = image;
  if (!(store instanceof HostFile) || store.fd === undefined) return undefined;
  return {
    fd: store.fd,
    clusterSize: COPIED_BLOCK_BYTES,
    take: async (start, length) => ({
      start,
      length: length - (length % COPIED_BLOCK_BYTES),
      host: start,
      fresh: true,
      reserved: false,
      release: () => {},
    }),
    keep: async (_, at, length) => store.grown(at + length),
    drop: async () => {},
    leaveOut: async () => {},
    end: () => {},
  };
}

/** A place, and the parts of the list that fill it, one behind the other. */
interface Filling {
  readonly extent: Held;
  readonly place: Place;
  readonly parts: readonly { readonly index: number; readonly start: number; readonly end: number }[];
}

/** What is told to the threads at once. */
class Batch {
  readonly copier: PartCopier | RangeCopier;
  fillings: Filling[] = [];
  copying: Promise<void> | undefined;

  constructor(offload: boolean) {
    this.copier = offload ? new RangeCopier(PARTS) : new PartCopier(PARTS);
  }
}

export class FileCopy {
  readonly #source: Image;
  readonly #target: Target;
  readonly #options: FileCopyOptions;
  readonly #rooms: CopyRooms;
  /** One is being filled while the other is being copied. */
  #filled: Batch;
  #copied: Batch;
  /** Whether zeros were found in the last batch that is over. */
  #zeros: boolean | undefined;

  private constructor(source: Image, target: Target, options: FileCopyOptions) {
    this.#source = source;
    this.#target = target;
    this.#options = options;
    this.#rooms = new CopyRooms(Math.min(THREADS, options.parallel));
    this.#filled = new Batch(options.offload);
    this.#copied = new Batch(options.offload);
  }

  /** Undefined where nothing can be copied so. */
  static async between(source: Image, target: Image, options: FileCopyOptions): Promise<FileCopy | undefined> {
    const into = canCopyParts || options.offload ? await targetOf(target, options) : undefined;
    if (into === undefined || into.clusterSize % COPIED_BLOCK_BYTES !== 0) return undefined;
    return into.clusterSize > MOST_COPIED_BYTES ? undefined : new FileCopy(source, into, options);
  }

  /** Copies what it can, and yields the rest. */
  async *copy(extents: AsyncIterable<Held>): AsyncGenerator<Held> {
    try {
      for await (const extent of extents) {
        const fd = this.#options.wanted(extent) ? fileOf(this.#source, extent) : undefined;
        if (fd === undefined) yield extent;
        else yield* this.#take(extent, fd);
      }
      yield* this.#turn();
      yield* this.#turn();
    } finally {
      await this.#abandon();
    }
  }

  /** Puts an extent into the batch, and as soon as that is full, starts copying it. */
  async *#take(extent: Held, fd: number): AsyncGenerator<Held> {
    const { clusterSize } = this.#target;
    const end = extent.start + extent.length;
    let at = Math.min(end, Math.ceil(extent.start / clusterSize) * clusterSize);
    if (at > extent.start) yield part(extent, extent.start, at);
    while (at < end) {
      const parts = this.#zeros === undefined ? FIRST_PARTS : PARTS;
      // A place that does not begin where a part's end would be, has one more.
      const most = (parts - 1 - this.#filled.copier.count) * MOST_COPIED_BYTES;
      if (most <= 0) {
        yield* this.#turn();
        continue;
      }
      const length = Math.min(end - at, most);
      const dense = this.#zeros === false;
      const place = length < clusterSize ? undefined : await this.#target.take(at, length, dense);
      if (place === undefined) {
        // Something is there already, or it is less than a cluster.
        const next = Math.min(end, at + LEFT_BYTES);
        yield part(extent, at, next);
        at = next;
      } else {
        this.#fill(extent, place, fd);
        at += place.length;
      }
    }
  }

  #fill(extent: Held, place: Place, fromFd: number): void {
    const { copier, fillings } = this.#filled;
    const { host, fresh } = place;
    const zeros = !this.#options.sparse ? Zeros.WRITTEN : fresh ? Zeros.LEFT_OUT : Zeros.WRITTEN_BESIDE;
    const parts = [];
    for (let done = 0; done < place.length; ) {
      // They end where their multiples do in the target: so the kernel's page cache has them in the fewest pieces.
      const length = Math.min(place.length - done, MOST_COPIED_BYTES - ((host + done) % MOST_COPIED_BYTES));
      const start = place.start + done;
      parts.push({ index: copier.count, start, end: start + length });
      const from = extent.offset! + (start - extent.start);
      copier.push({ fromFd, from, toFd: this.#target.fd, to: host + done, length, zeros });
      done += length;
    }
    fillings.push({ extent, place, parts });
  }

  /** The batch that was filled is copied from now on, and the one before is over: yields what is left of that. */
  async *#turn(): AsyncGenerator<Held> {
    this.#options.signal?.throwIfAborted();
    await this.#copied.copying;
    [this.#filled, this.#copied] = [this.#copied, this.#filled];
    this.#copied.copying = this.#copied.copier.copy(this.#rooms);
    // Whoever waits for it hears of a failure.
    this.#copied.copying.catch(() => {});
    const { copier, fillings } = this.#filled;
    const left: Held[] = [];
    if (copier.count > 0) this.#zeros = copier.anyZeros;
    for (let filling = fillings.shift(); filling !== undefined; filling = fillings.shift()) {
      try {
        await this.#settle(filling, copier, left);
      } finally {
        filling.place.release();
      }
    }
    copier.clear();
    yield* left;
  }

  /** Keeps what was written; what was not is dropped, and left to others unless it is there as the zeros that it is. */
  async #settle({ extent, place, parts }: Filling, copier: Batch["copier"], left: Held[]): Promise<void> {
    const { clusterSize } = this.#target;
    const { overZeros, copied } = this.#options;
    const blocks = clusterSize / COPIED_BLOCK_BYTES;
    const runs = new Runs();
    const holes = new Runs();
    for (const { index, start, end } of parts) {
      const done = copier.done(index);
      if (!done || !copier.hasZeros(index)) {
        runs.add(done ? "kept" : "failed", start, end);
        continue;
      }
      for (let at = start; at < end; at += clusterSize) {
        const first = (at - start) / COPIED_BLOCK_BYTES;
        const isZero = copier.isZero(index, first, blocks);
        runs.add(isZero ? "zero" : "kept", at, at + clusterSize);
        for (let block = 0; block < blocks && !isZero && place.reserved; block++) {
          if (copier.isZero(index, first + block, 1))
            holes.add("zero", at + block * COPIED_BLOCK_BYTES, at + (block + 1) * COPIED_BLOCK_BYTES);
        }
      }
    }
    for (const { start, end } of holes.list) await this.#target.leaveOut(place, start, end - start);
    for (const { what, start, end } of runs.list) {
      if (what === "kept") await this.#target.keep(place, start, end - start);
      else await this.#target.drop(place, start, end - start);
      if (what === "failed") left.push(part(extent, start, end));
      else if (what === "zero" && overZeros) left.push({ ...part(extent, start, end), zero: true, data: false });
      else copied(end - start);
    }
  }

  /** All of it is over, and nobody writes the target any more. */
  end(): void {
    this.#rooms[Symbol.dispose]();
    this.#target.end();
  }

  /** After a failure, nobody copies any more, and nothing is held. */
  async #abandon(): Promise<void> {
    for (const batch of [this.#copied, this.#filled]) {
      batch.copier.stop();
      await batch.copying?.catch(() => {});
      for (const { place } of batch.fillings) {
        try {
          await this.#target.drop(place, place.start, place.length);
        } catch {
          // The space is lost until a check finds it; why the copy failed is known already.
        } finally {
          place.release();
        }
      }
    }
  }
}

/** What became of bytes, as runs. */
class Runs {
  readonly list: { what: "kept" | "failed" | "zero"; start: number; end: number }[] = [];

  add(what: "kept" | "failed" | "zero", start: number, end: number): void {
    const last = this.list.at(-1);
    if (last?.what === what && last.end === start) last.end = end;
    else this.list.push({ what, start, end });
  }
}

/** The bytes of an extent from `start` to `end`. */
export function part(extent: Held, start: number, end: number): Held {
  const { offset } = extent;
  return {
    ...extent,
    start,
    length: end - start,
    ...(offset !== undefined && { offset: offset + start - extent.start }),
  };
}

/** The file in which an extent lies as it is read, if there is one that does not change. */
function fileOf(source: Image, { zero, data, depth, offset, name }: Held): number | undefined {
  if (zero || !data || offset === undefined) return undefined;
  let image: Image | undefined = source;
  for (let below = 0; below < depth; below++) image = image instanceof Qcow2Image ? image.backing : undefined;
  let store: Store | undefined;
  if (image instanceof Qcow2Image) store = image.metadata.store;
  else if (image instanceof RawImage) store = image.store;
  return store instanceof HostFile && store.readOnly && store.name === name ? store.fd : undefined;
}
