/** Copying what an image holds into another. */

import type { Image } from "../image.ts";
import { Qcow2Image } from "../qcow2/qcow2-image.ts";
import { extentsOf } from "./extents.ts";

/** Bytes of one transfer, and how many are under way together. */
const CHUNK = 2 << 20;
const PARALLEL = 8;
/** Zeros of so many bytes are not written (qemu-img's -S). */
export const SPARSE_BYTES = 4096;
const ZEROS = Buffer.alloc(SPARSE_BYTES);

export interface CopyOptions {
  /** Told how many bytes of the disk are done, of how many. */
  progress?: (done: number, total: number) => void;
  signal?: AbortSignal;
  /** Writes clusters in compressed form, where the target can. */
  compressed?: boolean;
  /** The target may hold something else already: zeros are written, too. */
  overZeros?: boolean;
  /** Only what the first image of the chain holds itself. */
  topOnly?: boolean;
}

/** Copies a disk's content. The target is at least as long, and reads as zeros unless `overZeros` is set. */
export async function copyImage(source: Image, target: Image, options: CopyOptions = {}): Promise<void> {
  const { progress, signal, overZeros = false, topOnly = false } = options;
  const total = source.sizeBytes;
  const work = new Pool(PARALLEL);
  const write = writerOf(target, options);
  try {
    for await (const { start, length, zero, depth, present } of extentsOf(source)) {
      signal?.throwIfAborted();
      if (topOnly && (depth > 0 || !present)) continue;
      if (zero) {
        if (overZeros) await target.writeZeroes(start, length, true);
      } else {
        for (let at = start; at < start + length; ) {
          // Chunks end where their multiples do, so that clusters are written whole.
          const step = Math.min(start + length - at, CHUNK - (at % CHUNK));
          const from = at;
          await work.run(async () => {
            const bytes = work.buffer(CHUNK).subarray(0, step);
            await source.read(from, [bytes]);
            await write(from, bytes);
            work.giveBack(bytes);
          });
          at += step;
        }
      }
      progress?.(start + length, total);
    }
  } finally {
    await work.end();
  }
}

type Write = (offset: number, bytes: Buffer) => Promise<void>;

function writerOf(target: Image, { compressed, overZeros }: CopyOptions): Write {
  if (compressed && target instanceof Qcow2Image) return (offset, bytes) => writeCompressed(target, offset, bytes);
  return (offset, bytes) => writeSparse(target, offset, bytes, overZeros ?? false);
}

async function writeCompressed(target: Qcow2Image, offset: number, bytes: Buffer): Promise<void> {
  const { clusterSize } = target.metadata;
  for (let at = 0; at < bytes.length; at += clusterSize) {
    const cluster = bytes.subarray(at, at + clusterSize);
    if (!isZero(cluster)) await target.writeCompressed(offset + at, cluster);
  }
}

/** Runs that are not zero are written; zeros are there already, or are written as such. */
async function writeSparse(target: Image, offset: number, bytes: Buffer, overZeros: boolean): Promise<void> {
  for (let at = 0; at < bytes.length; ) {
    const zero = isZero(bytes.subarray(at, at + SPARSE_BYTES));
    let end = Math.min(bytes.length, at + SPARSE_BYTES);
    while (end < bytes.length && isZero(bytes.subarray(end, end + SPARSE_BYTES)) === zero) {
      end = Math.min(bytes.length, end + SPARSE_BYTES);
    }
    if (!zero) await target.write(offset + at, [bytes.subarray(at, end)]);
    else if (overZeros) await target.writeZeroes(offset + at, end - at, true);
    at = end;
  }
}

export function isZero(bytes: Buffer): boolean {
  // Most blocks that are not zero begin so.
  if (bytes[0] !== 0) return false;
  for (let at = 0; at < bytes.length; at += SPARSE_BYTES) {
    const part = bytes.subarray(at, at + SPARSE_BYTES);
    if (part.compare(part.length === SPARSE_BYTES ? ZEROS : ZEROS.subarray(0, part.length)) !== 0) return false;
  }
  return true;
}

/** A few pieces of work at once, and the memory that they take turns with. */
class Pool {
  readonly #most: number;
  readonly #running = new Set<Promise<void>>();
  readonly #buffers: Buffer[] = [];
  #failure: unknown;

  constructor(most: number) {
    this.#most = most;
  }

  /** Waits until there is room for the work, not until it is done. */
  async run(work: () => Promise<void>): Promise<void> {
    while (this.#running.size >= this.#most) await Promise.race(this.#running);
    if (this.#failure !== undefined) throw this.#failure;
    const running: Promise<void> = work()
      .catch((cause) => {
        this.#failure ??= cause;
      })
      .finally(() => this.#running.delete(running));
    this.#running.add(running);
  }

  buffer(bytes: number): Buffer {
    return this.#buffers.pop() ?? Buffer.allocUnsafeSlow(bytes);
  }

  giveBack(part: Buffer): void {
    this.#buffers.push(Buffer.from(part.buffer as ArrayBuffer));
  }

  async end(): Promise<void> {
    await Promise.all(this.#running);
    if (this.#failure !== undefined) throw this.#failure;
  }
}
