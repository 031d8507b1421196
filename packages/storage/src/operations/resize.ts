/** Another size for an image's disk, with space for what is new. */

import { StorageError } from "../errors.ts";
import { HostFile } from "../file/host-file.ts";
import type { Image } from "../image.ts";
import type { Preallocation } from "../qcow2/preallocate.ts";
import { Qcow2Image } from "../qcow2/qcow2-image.ts";
import { RawImage } from "../raw/raw-image.ts";
import { noMetadata } from "./create.ts";

/** Resizes an image of which the caller is the only user. What is new has its space; if there is none, the size stays. */
export async function resizeImage(image: Image, sizeBytes: number, preallocation: Preallocation): Promise<void> {
  if (preallocation === "off") return image.resize(sizeBytes);
  const refuse = (why: string) =>
    new StorageError("STORAGE_OPEN", `${image.name}: preallocation=${preallocation}: ${why}`);
  const old = image.sizeBytes;
  if (sizeBytes <= old) throw refuse(`a disk gets space in advance only where it grows, and it has ${old} bytes`);
  if (image instanceof Qcow2Image) return image.resize(sizeBytes, preallocation);
  if (!(image instanceof RawImage && image.store instanceof HostFile) || image.store.isDevice) {
    throw refuse("only qcow2 and regular files have that");
  }
  if (preallocation === "metadata") throw noMetadata(image.name);
  const { store } = image;
  try {
    await store.fill(old, sizeBytes - old, preallocation === "full");
  } catch (cause) {
    await store.resize(old);
    throw cause;
  }
}
