/** Opening an image by its path. */

import { StorageError } from "./errors.ts";
import { HostFile, type HostFileOptions } from "./file/host-file.ts";
import type { Image, Store } from "./image.ts";
import { isNbdUri, NbdStore } from "./nbd/index.ts";
import { RawImage } from "./raw/raw-image.ts";

export interface OpenImageOptions {
  /**
   * The format as `qemu-img` spells it. Without it the content decides, and what looks like nothing known is raw; a guest
   * that writes a header into its raw disk would decide then, so whoever runs guests names the format.
   */
  format?: string;
  /** Nothing is written, and other readers may share it. */
  readOnly?: boolean;
  /** Keeps QEMU's locks on every file of the chain; default true. */
  lock?: boolean;
}

/**
 * Opens the disk image at `path`, which may be an address such as `nbd://HOST/EXPORT`, with its backing chain. The image locks what it has opened, against every QEMU and
 * Lodge, until it is closed. Fails with a {@link StorageError} of code `STORAGE_OPEN` that names the file of the chain
 * that cannot be opened.
 */
export async function openImage(path: string, options: OpenImageOptions = {}): Promise<Image> {
  const { readOnly = false, lock = true, format = "raw" } = options;
  const store = await openStore(path, { readOnly, lock });
  try {
    if (format === "raw") return new RawImage(store);
    throw new StorageError("STORAGE_OPEN", `${path}: the format ${format} is unknown: raw is possible`);
  } catch (cause) {
    await store.close();
    throw cause;
  }
}

/** The bytes at a path or an NBD address. */
export function openStore(where: string, options: HostFileOptions = {}): Promise<Store> {
  return isNbdUri(where) ? NbdStore.open(where, options) : HostFile.open(where, options);
}
