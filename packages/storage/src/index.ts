/** Disks: what they are to a device, the formats of images, and the files that hold them. */

export type { AddBitmapOptions } from "./bitmaps/dirty-bitmaps.ts";
export { type BitmapState, DiskBitmaps } from "./bitmaps/disk-bitmaps.ts";
export type { Disk } from "./disk.ts";
export { CACHE_MODES, type CacheMode } from "./drive/cache-mode.ts";
export { Drive, type DriveOptions } from "./drive/drive.ts";
export { type Clock, type Limits, Throttle } from "./drive/throttle.ts";
export { isNoSpace, StorageError, type StorageErrorCode } from "./errors.ts";
export { HostFile, type HostFileOptions } from "./file/host-file.ts";
export { isImageInUse } from "./file/locks.ts";
export { Transfers } from "./file/transfers.ts";
export type { Extent, Image, Store } from "./image.ts";
export { backingPath, type OpenImageOptions, openImage, openStore, probeFormat } from "./open.ts";
export { commitImage, type RebaseOptions, rebaseImage } from "./operations/chain.ts";
export { type CompareOptions, compareImages, type Difference } from "./operations/compare.ts";
export { type CopyOptions, copyImage } from "./operations/copy.ts";
export { type CreateImageOptions, createImage, removeMade } from "./operations/create.ts";
export { extentsOf, mapImage } from "./operations/extents.ts";
export { describeImage, type ImageInfo, snapshotRecord } from "./operations/info.ts";
export { type CheckResult, checkQcow2, type Repair } from "./qcow2/check/check.ts";
export { type CreateQcow2Options, createQcow2 } from "./qcow2/create.ts";
export type { Preallocation } from "./qcow2/preallocate.ts";
export { Qcow2Image } from "./qcow2/qcow2-image.ts";
export type { Snapshot } from "./qcow2/snapshot-table.ts";
export { applySnapshot, createSnapshot, deleteSnapshot, listSnapshots } from "./qcow2/snapshots.ts";
export { RawImage } from "./raw/raw-image.ts";
