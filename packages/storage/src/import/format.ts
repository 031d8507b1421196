/** What the formats of other hypervisors have in common: how they are opened, and how they are refused. */

import { StorageError } from "../errors.ts";
import type { Store } from "../image.ts";
import type { MappedImage } from "./mapped-image.ts";
import type { Neighbours } from "./parents.ts";

/** Makes an image of a store, which it takes over when it succeeds. */
export type OpenFormat = (store: Store, neighbours: Neighbours) => Promise<MappedImage>;

/** No disk of ours is larger than what qcow2 and the guests' virtio reach: 64 TiB. */
const MAX_DISK_BYTES = 2 ** 46;

/** The image cannot be opened, and why. */
export function refusal(store: Store, why: string): StorageError {
  return new StorageError("STORAGE_OPEN", `${store.name}: ${why}`);
}

/** A disk's size that an image claims, if it can be one. */
export function checkedSize(store: Store, sizeBytes: number): number {
  if (!(sizeBytes > 0 && sizeBytes <= MAX_DISK_BYTES && sizeBytes % 512 === 0)) {
    throw refusal(store, `it claims a disk of ${sizeBytes} bytes, which is none`);
  }
  return sizeBytes;
}

/** A power of two from `least` to `most`. */
export function checkedPower(store: Store, value: number, least: number, most: number, what: string): number {
  if (!(value >= least && value <= most && 2 ** Math.round(Math.log2(value)) === value)) {
    throw refusal(store, `${what} of ${value} bytes; it is a power of two from ${least} to ${most}`);
  }
  return value;
}

/** The first `length` bytes, or fewer where the store ends. */
export async function head(store: Store, length: number): Promise<Buffer> {
  const bytes = Buffer.alloc(Math.min(length, store.sizeBytes));
  await store.read(0, [bytes]);
  return bytes;
}

/** A little-endian u64; what is no exact number is larger than every disk. */
export function u64(bytes: Buffer, at: number): number {
  return Number(bytes.readBigUInt64LE(at));
}
