/** Disks: what they are to a device, and the files that hold them. */

export type { Disk } from "./disk.ts";
export { StorageError, type StorageErrorCode } from "./errors.ts";
export { RawFile, type RawFileOptions } from "./raw-file.ts";
export { Transfers } from "./transfers.ts";
