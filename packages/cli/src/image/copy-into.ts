/** The end of all commands that copy a disk into an image. */

import type { BitmapCopy, CopyOptions, Image } from "@lodge/storage";
import { type CacheMode, copyImage, fileCaching, openImage, removeMade } from "@lodge/storage/copying";
import type { Named } from "./options.ts";

interface Target extends Named {
  cache: CacheMode;
  /** It was made for this copy, and is removed when that fails. */
  made: boolean;
}

/** Copies a disk into an image that is there, and closes that. */
export async function copyInto(
  { path, options: opening, cache, made }: Target,
  source: Image,
  options: CopyOptions,
  bitmaps?: BitmapCopy,
): Promise<void> {
  try {
    const target = await openImage(path, { ...fileCaching(cache), ...opening });
    try {
      await bitmaps?.begin(target);
      await copyImage(source, target, options);
      await bitmaps?.end(target);
      await target.flush();
    } finally {
      await target.close();
    }
  } catch (cause) {
    if (made) await removeMade(path);
    throw cause;
  }
}
