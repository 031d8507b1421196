/**
 * QEMU's locks of images (its block/file-posix.c): who uses an image read-locks one byte for each thing that it does
 * with it and one for each that it does not let others do, and looks whether anybody holds the contrary.
 */

import { open } from "node:fs/promises";
import { canLockRange, Fcntl, lockRange } from "@lodge/linux/files";
import { StorageError } from "../errors.ts";

/** What one may do with an image: BLK_PERM_*, as the bit's number. */
const CONSISTENT_READ = 0;
const WRITE = 1;
const RESIZE = 3;
/** RAW_LOCK_PERM_BASE: a lock here says "I do this". */
const DOES = 100;
/** RAW_LOCK_SHARED_BASE: a lock here says "I let nobody else do this". */
const FORBIDS = 200;

/** Bits there are room for. */
const PERMISSIONS = 64;

const NAMES = new Map([
  [CONSISTENT_READ, "consistent read"],
  [WRITE, "write"],
  [RESIZE, "resize"],
]);

/** Locks an open image until its descriptor is closed: readers let each other in, a writer is alone. */
export function lockImage(fd: number, path: string, writes: boolean): void {
  const does = writes ? [CONSISTENT_READ, WRITE, RESIZE] : [CONSISTENT_READ];
  const forbids = [WRITE, RESIZE];
  // Both sides first show what they want and look then, so that of two at once at least one sees the other.
  for (const what of does) lockRange(fd, Fcntl.RDLCK, DOES + what, 1);
  for (const what of forbids) lockRange(fd, Fcntl.RDLCK, FORBIDS + what, 1);
  const inTheWay =
    does.find((what) => !canLockRange(fd, Fcntl.WRLCK, FORBIDS + what, 1)) ??
    forbids.find((what) => !canLockRange(fd, Fcntl.WRLCK, DOES + what, 1));
  if (inTheWay === undefined) return;
  throw new StorageError(
    "STORAGE_OPEN",
    `${path} is in use by another process (its "${NAMES.get(inTheWay)}" lock): close it there first`,
  );
}

/** Whether somebody, here or elsewhere, has an image open, to read or to write it. */
export async function isImageInUse(path: string): Promise<boolean> {
  const file = await open(path, "r");
  try {
    return [DOES, FORBIDS].some((base) => !canLockRange(file.fd, Fcntl.WRLCK, base, PERMISSIONS));
  } finally {
    await file.close();
  }
}
