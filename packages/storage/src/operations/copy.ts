/** Copying what an image holds into another. */

import type { Image } from "../image.ts";
import { Qcow2Image } from "../qcow2/qcow2-image.ts";
import { settled } from "../settled.ts";
import { FileCopy, type Held, part } from "./copy-files.ts";
import { extentsOf } from "./extents.ts";

/**
 * Bytes of one transfer, and how many are under way together. In writes of 2 MiB and more Linux takes folios of 2 MiB, looking
 * for which costs up to four times what the copy does.
 */
const CHUNK_BYTES = 1 << 20;
const PARALLEL = 4;
/** Zeros are looked for in blocks of so many bytes. */
const SPARSE_BYTES = 4096;
const ZEROS = Buffer.alloc(SPARSE_BYTES);

export interface CopyOptions {
  /** Told how many bytes of the disk are done, of how many. */
  progress?: (done: number, total: number) => void;
  signal?: AbortSignal;
  /** Writes clusters in compressed form, where the target can. */
  compressed?: boolean;
  /** The target may hold something else already: zeros are written, too. */
  overZeros?: boolean;
  /** All of it may be zeroed first, where that takes no writing: then zeros need not be made one by one. */
  mayZeroFirst?: boolean;
  /** Only what so many of the chain's first images hold. Default: all. */
  images?: number;
  /** So many zeros in a row are not written as data (qemu-img's -S); 0: everything is written. Default: 4096. */
  sparseBytes?: number;
  /** Transfers at once. */
  parallel?: number;
  /** What lies in files as it is goes from one to the other by copy_file_range(2), with the zeros in it; what cannot, as ever. */
  offload?: boolean;
}

/** Copies a disk's content. The target is at least as long, and reads as zeros unless `overZeros` is set. */
export async function copyImage(source: Image, target: Image, options: CopyOptions = {}): Promise<void> {
  const { progress, sparseBytes = SPARSE_BYTES, parallel = PARALLEL } = options;
  const overZeros = (options.overZeros ?? false) && !(options.mayZeroFirst && (await zeroed(target, source.sizeBytes)));
  const write = writerOf(target, { ...options, overZeros });
  // In whole clusters, also where those are larger.
  const clusterSize = target instanceof Qcow2Image ? target.metadata.clusterSize : 0;
  const chunkBytes = Math.max(CHUNK_BYTES, clusterSize);
  let done = 0;
  const copied = (bytes: number) => {
    done += bytes;
    progress?.(done, source.sizeBytes);
  };
  const files = await fileCopyOf(source, target, { ...options, overZeros, parallel }, copied);
  const held = extentsOf(source);
  const extents = options.compressed && clusterSize > 0 ? inClusters(held, clusterSize, source.sizeBytes) : held;
  // What threads cannot copy is left to be done here.
  const parts = partsOf(files?.copy(extents) ?? extents, chunkBytes, options);
  const worker = async () => {
    let room: Buffer | undefined;
    // All take from the same parts; the first failure ends them for all.
    for await (const { start, length, zero, skipped } of parts) {
      if (skipped) {
        // Nothing of it is copied.
      } else if (zero && sparseBytes > 0) {
        if (overZeros) await target.writeZeroes(start, length, true);
      } else {
        room ??= Buffer.allocUnsafeSlow(chunkBytes);
        const bytes = room.subarray(0, length);
        await source.read(start, [bytes]);
        await write(start, bytes);
      }
      copied(length);
    }
  };
  try {
    await settled(Array.from({ length: parallel }, worker));
  } finally {
    files?.end();
  }
}

async function fileCopyOf(
  source: Image,
  target: Image,
  options: CopyOptions & { overZeros: boolean; parallel: number },
  copied: (bytes: number) => void,
): Promise<FileCopy | undefined> {
  const { compressed, overZeros, sparseBytes = SPARSE_BYTES, signal, parallel, offload = false } = options;
  // It looks for zeros block by block.
  if (compressed || sparseBytes > SPARSE_BYTES) return undefined;
  const wanted = (extent: Held) => isWanted(extent, options);
  const sparse = sparseBytes > 0 && !offload;
  return FileCopy.between(source, target, { sparse, overZeros, wanted, signal, copied, parallel, offload });
}

async function zeroed(target: Image, sizeBytes: number): Promise<boolean> {
  try {
    await target.writeZeroes(0, sizeBytes, true, true);
    return true;
  } catch {
    // Where it can only be written, or not at all, the copy does it or says why not.
    return false;
  }
}

/** The same in whole clusters, as they are compressed: one that is held in several ways is one extent of its own. */
async function* inClusters(extents: AsyncIterable<Held>, clusterSize: number, end: number): AsyncGenerator<Held> {
  let mixed: Held | undefined;
  for await (const extent of extents) {
    const stop = extent.start + extent.length;
    let at = extent.start;
    if (mixed !== undefined) {
      at = Math.min(stop, mixed.start + clusterSize);
      mixed = {
        start: mixed.start,
        length: at - mixed.start,
        zero: mixed.zero && extent.zero,
        data: mixed.data || extent.data,
        present: mixed.present || extent.present,
        depth: Math.min(mixed.depth, extent.depth),
      };
      if (mixed.length < clusterSize && at < end) continue;
      yield mixed;
      mixed = undefined;
    }
    const whole = stop === end ? stop : Math.max(at, Math.floor(stop / clusterSize) * clusterSize);
    if (whole > at) yield part(extent, at, whole);
    if (stop > whole) mixed = part(extent, whole, stop);
  }
}

interface Part {
  start: number;
  length: number;
  zero: boolean;
  /** Held by an image below, where only the first one's content is wanted. */
  skipped: boolean;
}

/** What is to be done: zeros as long as they are, data in chunks that end where their multiples do. */
async function* partsOf(
  extents: AsyncIterable<Held>,
  chunkBytes: number,
  { signal, sparseBytes = SPARSE_BYTES, ...options }: CopyOptions,
): AsyncGenerator<Part> {
  for await (const extent of extents) {
    const { start, length, zero } = extent;
    const skipped = !isWanted(extent, options);
    const whole = skipped || (zero && sparseBytes > 0);
    for (let at = start; at < start + length; ) {
      signal?.throwIfAborted();
      const left = start + length - at;
      const step = whole ? left : Math.min(left, chunkBytes - (at % chunkBytes));
      yield { start: at, length: step, zero, skipped };
      at += step;
    }
  }
}

function isWanted({ depth, present }: Held, { images = Number.POSITIVE_INFINITY }: CopyOptions): boolean {
  return depth < images && (present || images === Number.POSITIVE_INFINITY);
}

type Write = (offset: number, bytes: Buffer) => Promise<void>;

function writerOf(target: Image, { compressed, overZeros = false, sparseBytes = SPARSE_BYTES }: CopyOptions): Write {
  if (compressed && target instanceof Qcow2Image) {
    return (offset, bytes) => writeCompressed(target, offset, bytes, overZeros);
  }
  if (sparseBytes === 0) return (offset, bytes) => target.write(offset, [bytes]);
  return (offset, bytes) => writeSparse(target, offset, bytes, overZeros, sparseBytes);
}

async function writeCompressed(target: Qcow2Image, offset: number, bytes: Buffer, overZeros: boolean): Promise<void> {
  const { clusterSize } = target.metadata;
  for (let at = 0; at < bytes.length; at += clusterSize) {
    const cluster = bytes.subarray(at, at + clusterSize);
    if (!isZero(cluster)) await target.writeCompressed(offset + at, cluster);
    else if (overZeros) await target.writeZeroes(offset + at, cluster.length, true);
  }
}

/** Runs that are not zero are written; zeros are there already, or are written as such. */
async function writeSparse(
  target: Image,
  offset: number,
  bytes: Buffer,
  overZeros: boolean,
  sparseBytes: number,
): Promise<void> {
  for (let at = 0; at < bytes.length; ) {
    const zero = isZero(bytes, at, SPARSE_BYTES);
    let end = at + SPARSE_BYTES;
    while (end < bytes.length && isZero(bytes, end, SPARSE_BYTES) === zero) end += SPARSE_BYTES;
    end = Math.min(end, bytes.length);
    const few = end - at < sparseBytes && end < bytes.length;
    if (!zero || few)
      await target.write(offset + at, [at === 0 && end === bytes.length ? bytes : bytes.subarray(at, end)]);
    else if (overZeros) await target.writeZeroes(offset + at, end - at, true);
    at = end;
  }
}

/** Whether the bytes from `start` on, as many of `length` as there are, are all 0. */
export function isZero(bytes: Buffer, start = 0, length = bytes.length): boolean {
  const end = Math.min(start + length, bytes.length);
  for (let at = start; at < end; at += SPARSE_BYTES) {
    const stop = Math.min(at + SPARSE_BYTES, end);
    // Most blocks that are not zero begin so, and need no call.
    if (bytes[at] !== 0 || bytes.compare(ZEROS, 0, stop - at, at, stop) !== 0) return false;
  }
  return true;
}
