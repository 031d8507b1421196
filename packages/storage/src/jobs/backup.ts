/** Backup: what a disk was at the moment the job began, however much is written meanwhile. */

import type { DirtyBitmap } from "../bitmaps/dirty-bitmaps.ts";
import { DirtyBits, granularityFor } from "../bitmaps/dirty-bits.ts";
import type { Drive } from "../drive/drive.ts";
import { StorageError } from "../errors.ts";
import type { Extent, Image } from "../image.ts";
import { Copying, RangeCopy, refuseSize } from "./copying.ts";
import type { BlockJob, JobOptions, JobSteps } from "./job.ts";
import { type JobWork, nameOf, occupy, release } from "./occupy.ts";

export interface BackupOptions extends JobOptions {
  /** What is copied: all, what the disk's first image holds itself, or what `bitmap` says. Default: full. */
  readonly sync?: "full" | "top" | "incremental";
  /** Says afterwards what was written since this backup began; with `incremental`, what was written since the last. */
  readonly bitmap?: string;
  /**
   * When the bitmap begins anew: if the job completes, never, or always; then after a failure it says what was not copied,
   * too. Default: on-success.
   */
  readonly bitmapMode?: "on-success" | "never" | "always";
  /** The target reads as zeros, so that zeros are not written. */
  readonly targetIsZero?: boolean;
}

/**
 * Copies the drive's disk, as it is when this resolves, into `target`, which is the job's to close. A guest's write waits until
 * what it would overwrite is copied. If that fails, the job fails, and the write does not. A job that fails or is cancelled
 * leaves a target that is of no use, the disk as it is, and a bitmap that has forgotten nothing.
 */
export function startBackup(drive: Drive, target: Image, options: BackupOptions = {}): Promise<BlockJob> {
  return occupy(drive, "backup", options, async () => {
    refuseSize(drive.image, target);
    const { sync = "full", bitmap } = options;
    if (sync === "incremental" && bitmap === undefined) {
      throw new StorageError("STORAGE_OPEN", `${drive.image.name}: an incremental backup needs the name of a bitmap`);
    }
    return new Backup(drive, target, options, bitmap === undefined ? undefined : await drive.bitmaps.find(bitmap));
  });
}

class Backup implements JobWork {
  readonly name = nameOf("backup");
  readonly #drive: Drive;
  readonly #target: Image;
  readonly #options: BackupOptions;
  readonly #copying: Copying;
  readonly #copy: RangeCopy;
  readonly #bitmap: DirtyBitmap | undefined;
  /** What the bitmap said when the job began. */
  readonly #frozen: DirtyBits | undefined;
  /** Something was overwritten that could not be copied before. */
  #lost: Error | undefined;
  #steps: JobSteps | undefined;

  constructor(drive: Drive, target: Image, options: BackupOptions, bitmap: DirtyBitmap | undefined) {
    const { sync = "full", targetIsZero = false } = options;
    this.#drive = drive;
    this.#target = target;
    this.#options = options;
    const source = drive.image;
    const skips = ({ zero, depth, present }: Extent) =>
      (zero && targetIsZero) || (sync === "top" && (depth > 0 || !present));
    this.#copy = new RangeCopy(source, target, skips);
    const bits = new DirtyBits(source.sizeBytes, granularityFor(source.sizeBytes, 65536));
    this.#copying = new Copying(bits, async (offset, length) => {
      if (this.#lost !== undefined) throw this.#lost;
      await this.#copy.copy(offset, length);
    });
    if (sync === "incremental") bits.merge(bitmap!.bits);
    else bits.set(0, source.sizeBytes);
    this.#bitmap = bitmap;
    if (bitmap === undefined) return;
    this.#frozen = bitmap.bits;
    bitmap.busy = true;
    bitmap.bits = new DirtyBits(bitmap.bits.sizeBytes, bitmap.bits.granularity);
  }

  /** Copies what is about to be overwritten, and waits for whoever is copying it. */
  async before(offset: number, length: number): Promise<void> {
    if (this.#lost !== undefined || length === 0) return;
    const { bits } = this.#copying;
    const start = offset - (offset % bits.granularity);
    const end = offset + length;
    try {
      await this.#copying.alone(start, end - start, async () => {
        for (let run = bits.next(start); run !== undefined && run.offset < end; run = bits.next(run.offset)) {
          const part = Math.min(run.length, Math.ceil((end - run.offset) / bits.granularity) * bits.granularity);
          // Nobody else is to take it up, and copy it after it was overwritten.
          bits.clear(run.offset, part);
          try {
            await this.#copy.copy(run.offset, part);
          } catch (cause) {
            bits.set(run.offset, part);
            throw cause;
          }
          this.#steps?.did(part);
        }
      });
    } catch (cause) {
      this.#lost ??= cause as Error;
    }
  }

  async run(steps: JobSteps): Promise<void> {
    this.#steps = steps;
    let done = false;
    try {
      steps.expect(this.#copying.bits.dirtyBytes);
      await this.#copying.run(steps);
      await steps.finishing();
      await release(this.#drive, this);
      if (this.#lost !== undefined) throw this.#lost;
      await this.#target.flush();
      done = true;
    } finally {
      await release(this.#drive, this);
      this.#settleBitmap(done);
      await this.#target.close();
    }
  }

  #settleBitmap(done: boolean): void {
    const { bitmapMode = "on-success" } = this.#options;
    if (this.#bitmap === undefined) return;
    this.#bitmap.busy = false;
    if (bitmapMode === "never" || (!done && bitmapMode === "on-success")) this.#bitmap.bits.merge(this.#frozen!);
    // What could not be copied before it was overwritten is marked as written; the rest is what was not copied yet.
    else if (!done) this.#bitmap.bits.merge(this.#copying.bits);
  }
}
