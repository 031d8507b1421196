/** One job at a time on a drive, which begins between two requests. */

import type { Drive, WriteWatch } from "../drive/drive.ts";
import { StorageError } from "../errors.ts";
import type { BlockJob } from "./job.ts";

/**
 * Has `watch` stand in the way of the drive's writes, from a moment on in which none is at work, and makes the job in that
 * moment; `begin` is what else is of that moment. Nothing is changed if that fails.
 */
export function occupy(
  drive: Drive,
  kind: string,
  watch: WriteWatch,
  make: () => BlockJob,
  begin: () => Promise<void> | void = () => {},
): Promise<BlockJob> {
  refuseOccupied(drive, kind);
  return drive.drained(async () => {
    refuseOccupied(drive, kind);
    await begin();
    drive.watch = watch;
    return make();
  });
}

export function refuseOccupied(drive: Drive, kind: string): void {
  if (drive.watch === undefined) return;
  throw new StorageError(
    "STORAGE_OPEN",
    `${drive.image.name}: no ${kind} can begin: it is in use by ${drive.watch.name}`,
  );
}

/** The drive's writes go their way again, and none of them is still in the hands of `watch`. */
export async function release(drive: Drive, watch: WriteWatch): Promise<void> {
  if (drive.watch !== watch) return;
  await drive.drained(async () => {
    drive.watch = undefined;
  });
}
