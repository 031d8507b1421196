/** One job at a time on a drive, which begins and lets go between two requests. */

import type { Drive, WriteWatch } from "../drive/drive.ts";
import { StorageError } from "../errors.ts";
import { BlockJob, checkSpeed, type JobKind, type JobOptions, type JobSteps } from "./job.ts";

export interface JobWork extends WriteWatch {
  run(steps: JobSteps): Promise<void>;
}

/** What a drive that is in use is said to be in use by. */
export function nameOf(kind: JobKind): string {
  return `the block job ${kind}`;
}

/**
 * Makes a job whose work stands in the way of the drive's writes from a moment on in which none is at work; `prepare` is
 * what else is of that moment. Nothing is changed if that fails.
 */
export async function occupy(
  drive: Drive,
  kind: JobKind,
  options: JobOptions,
  prepare: () => Promise<JobWork> | JobWork,
): Promise<BlockJob> {
  refuseOccupied(drive, kind);
  checkSpeed(options.speed ?? 0);
  return drive.drained(async () => {
    refuseOccupied(drive, kind);
    const work = await prepare();
    const job = new BlockJob(kind, options.id ?? kind, options, (steps) => work.run(steps));
    drive.watch = work;
    return job;
  });
}

export function refuseOccupied(drive: Drive, what: string): void {
  if (drive.watch === undefined) return;
  throw new StorageError(
    "STORAGE_OPEN",
    `${drive.image.name}: no ${what} can begin: it is in use by ${drive.watch.name}`,
  );
}

/** The drive's writes go their way again, and none of them is still in the hands of `watch`. */
export async function release(drive: Drive, watch: WriteWatch): Promise<void> {
  if (drive.watch !== watch) return;
  await drive.drained(async () => {
    drive.watch = undefined;
  });
}
