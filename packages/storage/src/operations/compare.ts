/** Whether two disks have the same content. */

import type { Image } from "../image.ts";
import { isZero } from "./copy.ts";

const CHUNK = 1 << 20;

export interface Difference {
  /** The first byte that differs, or that is allocated differently. */
  offset: number;
  what: "content" | "allocation" | "size";
}

export interface CompareOptions {
  /** Sizes and what is allocated count, too. */
  strict?: boolean;
  progress?: (done: number, total: number) => void;
}

/** The first difference, or undefined. Without `strict`, a longer disk is the same if zeros are what it has more. */
export async function compareImages(
  one: Image,
  two: Image,
  options: CompareOptions = {},
): Promise<Difference | undefined> {
  const { strict = false, progress } = options;
  const shared = Math.min(one.sizeBytes, two.sizeBytes);
  const total = Math.max(one.sizeBytes, two.sizeBytes);
  if (strict && one.sizeBytes !== two.sizeBytes) return { offset: shared, what: "size" };
  const [ours, theirs] = [Buffer.alloc(CHUNK), Buffer.alloc(CHUNK)];
  for (let at = 0; at < shared; ) {
    const [a, b] = await Promise.all([one.status(at, shared - at), two.status(at, shared - at)]);
    const length = Math.min(a.length, b.length);
    if (strict && a.present !== b.present) return { offset: at, what: "allocation" };
    if (!(a.zero && b.zero)) {
      const found = await differing(one, two, at, length, ours, theirs);
      if (found !== undefined) return { offset: found, what: "content" };
    }
    at += length;
    progress?.(at, total);
  }
  const longer = one.sizeBytes > two.sizeBytes ? one : two;
  for (let at = shared; at < total; ) {
    const { zero, length } = await longer.status(at, total - at);
    const step = zero ? length : Math.min(length, CHUNK);
    if (!zero) {
      const part = ours.subarray(0, step);
      await longer.read(at, [part]);
      if (!isZero(part)) return { offset: at + part.findIndex((byte) => byte !== 0), what: "content" };
    }
    at += step;
    progress?.(at, total);
  }
  return undefined;
}

async function differing(
  one: Image,
  two: Image,
  offset: number,
  length: number,
  ours: Buffer,
  theirs: Buffer,
): Promise<number | undefined> {
  for (let at = offset; at < offset + length; at += CHUNK) {
    const step = Math.min(CHUNK, offset + length - at);
    const [a, b] = [ours.subarray(0, step), theirs.subarray(0, step)];
    await Promise.all([one.read(at, [a]), two.read(at, [b])]);
    if (a.equals(b)) continue;
    return at + a.findIndex((byte, index) => byte !== b[index]);
  }
  return undefined;
}
