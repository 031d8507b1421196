/** Making a new image file. */

import { lstat, rm, stat } from "node:fs/promises";
import { StorageError } from "../errors.ts";
import { HostFile } from "../file/host-file.ts";
import { backingPath, openImage } from "../open.ts";
import { type CreateQcow2Options, createQcow2 } from "../qcow2/create.ts";
import { openQcow2 } from "../qcow2/open.ts";
import type { Preallocation } from "../qcow2/preallocate.ts";

export interface CreateImageOptions extends Omit<CreateQcow2Options, "sizeBytes"> {
  /** Default `raw`, as qemu-img's. */
  format?: string;
  /** Without it, the backing image's. */
  sizeBytes?: number;
  preallocation?: Preallocation;
  /** Default true; without it, a host that fails leaves anything of the new file. */
  flushes?: boolean;
}

/**
 * Makes an image at `path`, in place of a file that may be there. A backing image is opened once to be sure that it can
 * be, and for its size. A failure leaves no file that was not there before. Returns whether the image reads as zeros where
 * it has nothing from below: on a block device, what was there before may still show.
 */
export async function createImage(path: string, options: CreateImageOptions): Promise<boolean> {
  const { format = "raw", preallocation = "off", backing, flushes = true } = options;
  if (format !== "raw" && format !== "qcow2") {
    throw new StorageError("STORAGE_OPEN", `${path}: images of the format ${format} cannot be made: raw and qcow2 can`);
  }
  if (format === "raw" && backing !== undefined) {
    throw new StorageError("STORAGE_OPEN", `${path}: a raw image has no backing file: take qcow2`);
  }
  if (format === "raw" && preallocation === "metadata") throw noMetadata(path);
  if (backing !== undefined) await refuseItself(path, backing.name);
  const sizeBytes = options.sizeBytes ?? (await backingSize(path, backing));
  const store = await HostFile.open(path, { create: "replace", flushes });
  const isClean = !store.isDevice || preallocation === "full";
  try {
    if (format === "raw") {
      await store.resize(sizeBytes);
      if (preallocation !== "off") await store.fill(0, sizeBytes, preallocation === "full");
      return isClean;
    }
    await createQcow2(store, { ...options, sizeBytes });
    if (preallocation === "off") return true;
    const { preallocate } = await import("../qcow2/preallocate.ts");
    const image = await openQcow2(store);
    await image.alone(() => preallocate(image, store, preallocation));
    return isClean;
  } catch (cause) {
    await removeMade(path);
    throw cause;
  } finally {
    await store.close();
  }
}

/** An image that were to stand on itself would be lost when it is made, and could not be opened any more. */
export async function refuseItself(path: string, backing: string): Promise<void> {
  const [image, below] = await Promise.all(
    // What is no file of this host, or not there yet, is another.
    [path, backingPath(path, backing)].map((one) => stat(one).catch(() => undefined)),
  );
  if (image === undefined || image.dev !== below?.dev || image.ino !== below.ino) return;
  throw new StorageError("STORAGE_OPEN", `${path}: it cannot be its own backing file`);
}

export function noMetadata(path: string): StorageError {
  const message = `${path}: a raw image has no metadata to be preallocated: take falloc or full`;
  return new StorageError("STORAGE_OPEN", message);
}

/** Takes a new image away again that is of no use; a device's name stays. */
export async function removeMade(path: string): Promise<void> {
  const stat = await lstat(path).catch(() => undefined);
  if (stat?.isFile()) await rm(path, { force: true });
}

async function backingSize(path: string, backing: CreateImageOptions["backing"]): Promise<number> {
  if (backing === undefined)
    throw new StorageError("STORAGE_OPEN", `${path}: an image without a backing file needs a size`);
  const below = await openImage(backingPath(path, backing.name), { format: backing.format, readOnly: true });
  const { sizeBytes } = below;
  await below.close();
  return sizeBytes;
}
