/** Changing what an image stands on. */

import { above, chainOf, indexOf } from "../chain.ts";
import { type CacheMode, fileCaching } from "../drive/cache-mode.ts";
import { Throttle } from "../drive/throttle.ts";
import { StorageError } from "../errors.ts";
import type { Image } from "../image.ts";
import { backingPath, openImage } from "../open.ts";
import { Qcow2Image } from "../qcow2/qcow2-image.ts";
import { emptyQcow2, setBacking } from "../qcow2/resize.ts";
import { type CopyOptions, copyImage } from "./copy.ts";
import { refuseItself } from "./create.ts";
import { extentsOf } from "./extents.ts";
import { RateLimitedImage } from "./rate-limited.ts";

const CHUNK = 1 << 20;

export interface CommitImageOptions {
  format?: string;
  /** The file of an image further below, into which also those between are written; they and the image stay as they are. */
  base?: string;
  keep?: boolean;
  /** Of all of the chain's files. Default: `writeback`. */
  cache?: CacheMode;
  /** Bytes a second at most. Default: as many as there are. */
  rateLimit?: number;
  progress?: CopyOptions["progress"];
}

/**
 * Writes what the image at `path` holds itself into its backing image. Afterwards it holds nothing, unless `keep` is set:
 * then it is as it was, and of no more use.
 */
export async function commitImage(path: string, options: CommitImageOptions = {}): Promise<void> {
  const { format, base, keep = base !== undefined, cache = "writeback", rateLimit, progress } = options;
  const caching = fileCaching(cache);
  const image = await openImage(path, { ...caching, ...(format !== undefined && { format }) });
  try {
    const named = image instanceof Qcow2Image ? image.header.backing : undefined;
    if (!(image instanceof Qcow2Image) || named === undefined) {
      throw new StorageError("STORAGE_OPEN", `${path}: the image has no backing file to be committed to`);
    }
    const chain = chainOf(image);
    const images = base === undefined ? 1 : indexOf(chain, base);
    const [parent, into] = [above(chain, images), chain[images]!];
    // It was opened to be read, and is opened to be written.
    await into.close();
    parent.backing = undefined;
    const target = await openImage(into.name, { ...caching, format: into.format });
    try {
      if (target.sizeBytes < image.sizeBytes) await target.resize(image.sizeBytes);
      const source = rateLimit === undefined ? image : new RateLimitedImage(image, new Throttle({ bps: rateLimit }));
      await copyImage(source, target, { images, overZeros: true, ...(progress && { progress }) });
      await target.flush();
    } finally {
      await target.close();
    }
    if (!keep) await image.alone(() => emptyQcow2(image));
  } finally {
    await image.close();
  }
}

export interface RebaseOptions {
  format?: string;
  /** What it is to stand on; undefined for nothing. */
  backing: { name: string; format: string } | undefined;
  /** The names change and nothing else: the content does, if the images differ. */
  unsafe?: boolean;
  /** Default true; without it, others may be writing the new backing image, and what is read of it is what they have done so far. */
  lockBacking?: boolean;
  /** Of the image's files, and of the new backing image's. Default: `writeback`. */
  cache?: CacheMode;
  backingCache?: CacheMode;
  progress?: CopyOptions["progress"];
}

/** Gives the image at `path` another backing image; what it reads as stays the same. */
export async function rebaseImage(path: string, options: RebaseOptions): Promise<void> {
  const { format, backing, unsafe = false, lockBacking = true, progress } = options;
  const { cache = "writeback", backingCache = "writeback" } = options;
  if (backing !== undefined) await refuseItself(path, backing.name);
  const image = await openImage(path, {
    ...fileCaching(cache),
    ...(format !== undefined && { format }),
    backing: !unsafe,
  });
  let next: Image | undefined;
  try {
    if (!(image instanceof Qcow2Image))
      throw new StorageError("STORAGE_OPEN", `${path}: a raw image has no backing file`);
    if (backing !== undefined && !unsafe) {
      const opening = { ...fileCaching(backingCache), format: backing.format, readOnly: true, lock: lockBacking };
      next = await openImage(backingPath(path, backing.name), opening);
    }
    if (!unsafe) await keepDifferences(image, next, progress);
    await image.alone(() => setBacking(image, backing));
  } finally {
    await image.close();
    await next?.close();
  }
}

/** Writes into the image what it had from below and would not have any more. */
async function keepDifferences(
  image: Qcow2Image,
  next: Image | undefined,
  progress: CopyOptions["progress"],
): Promise<void> {
  const [now, then] = [Buffer.alloc(CHUNK), Buffer.alloc(CHUNK)];
  for await (const { start, length, depth, present } of extentsOf(image)) {
    progress?.(start, image.sizeBytes);
    // What it holds itself stays. What nobody holds reads as zeros, and the new image may have something there.
    if (depth === 0 && present) continue;
    for (let at = start; at < start + length; at += CHUNK) {
      const part = now.subarray(0, Math.min(CHUNK, start + length - at));
      await image.read(at, [part]);
      const other = then.subarray(0, part.length).fill(0);
      const below = Math.max(0, Math.min(part.length, (next?.sizeBytes ?? 0) - at));
      if (below > 0) await next!.read(at, [other.subarray(0, below)]);
      await writeDifferent(image, at, part, other);
    }
  }
  await image.flush();
}

async function writeDifferent(image: Qcow2Image, offset: number, now: Buffer, then: Buffer): Promise<void> {
  const unit = image.metadata.mapping.unit;
  for (let at = 0; at < now.length; at += unit) {
    const part = now.subarray(at, at + unit);
    if (!part.equals(then.subarray(at, at + unit))) await image.write(offset + at, [part]);
  }
}
