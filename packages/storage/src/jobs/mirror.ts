/** Mirror: another image becomes what a running disk is, and stays so until the disk changes over to it. */

import { DirtyBits, granularityFor } from "../bitmaps/dirty-bits.ts";
import type { Drive } from "../drive/drive.ts";
import type { Image } from "../image.ts";
import { extentsOf } from "../operations/extents.ts";
import { Copying, RangeCopy, refuseSize } from "./copying.ts";
import type { BlockJob, JobKind, JobOptions, JobSteps } from "./job.ts";
import { type JobWork, nameOf, occupy, release } from "./occupy.ts";

/** A disk stands still while so much is copied at the very end. */
const LAST_BYTES = 4 << 20;

export interface MirrorOptions extends JobOptions {
  /** What is copied before it is ready: all, what the disk's first image holds itself, or only what is written from now on. */
  readonly sync?: "full" | "top" | "none";
  /**
   * `background` copies after the guest has written, and may never be ready if the guest is faster. With `write-blocking` a
   * write ends when it is in both, so that what is to be copied only becomes less.
   */
  readonly mode?: "background" | "write-blocking";
  /** Bytes of the disk that are copied together: a power of two. */
  readonly granularity?: number;
  /** The target reads as zeros, so that zeros are not written. */
  readonly targetIsZero?: boolean;
}

/** How a mirror ends; active commit is one, too. */
export interface MirrorEnd {
  /** Of the images that hold the disk's content, so many from the first on are copied; default all of them. */
  readonly depth?: number;
  /** While the drive stands still, its image being the target already: what is done to the one that was before. */
  readonly changedOver: (before: Image) => Promise<void>;
  /** The target is no longer of use to the drive. */
  readonly left: (target: Image) => Promise<void>;
}

const PLAIN: MirrorEnd = { changedOver: (before) => before.close(), left: (target) => target.close() };

/**
 * Makes `target` a mirror of the drive's disk; it belongs to the job until it belongs to the drive. When the job is ready,
 * `complete` has the drive go on with the target, and `cancel` leaves there what the disk is at that moment. A job that fails
 * or is cancelled by force leaves a target that is of no use; the disk is as it was in either case.
 */
export function startMirror(drive: Drive, target: Image, options: MirrorOptions = {}): Promise<BlockJob> {
  return occupy(drive, "mirror", options, () => new Mirror("mirror", drive, target, options, PLAIN));
}

export class Mirror implements JobWork {
  readonly name: string;
  readonly #drive: Drive;
  readonly #target: Image;
  readonly #options: MirrorOptions;
  readonly #end: MirrorEnd;
  readonly #copying: Copying;
  readonly #copy: RangeCopy;
  readonly #source: Image;
  /** Who waits for something to copy. */
  #dirtied: (() => void) | undefined;
  #steps: JobSteps | undefined;

  constructor(kind: JobKind, drive: Drive, target: Image, options: MirrorOptions, end: MirrorEnd) {
    refuseSize(drive.image, target);
    this.name = nameOf(kind);
    this.#drive = drive;
    this.#source = drive.image;
    this.#target = target;
    this.#options = options;
    this.#end = end;
    const granularity = options.granularity ?? granularityFor(drive.sizeBytes, 65536);
    const bits = new DirtyBits(drive.sizeBytes, granularity);
    this.#copy = new RangeCopy(this.#source, target);
    this.#copying = new Copying(bits, (offset, length) => this.#copy.copy(offset, length));
  }

  async after(offset: number, length: number): Promise<void> {
    if (this.#options.mode === "write-blocking") {
      try {
        // Nobody else copies there now: whoever writes last copies last.
        await this.#copying.alone(offset, length, () => this.#copy.copy(offset, length));
        return;
      } catch {
        // The job meets that failure when it tries it in its turn, and deals with it as it is to.
      }
    }
    this.#mark(offset, length);
    this.#dirtied?.();
  }

  #mark(offset: number, length: number): void {
    const { bits } = this.#copying;
    const before = bits.dirtyBytes;
    bits.set(offset, length);
    this.#steps?.expect(bits.dirtyBytes - before);
  }

  async run(steps: JobSteps): Promise<void> {
    this.#steps = steps;
    steps.onAsked(() => this.#dirtied?.());
    let before: Image | undefined;
    try {
      await this.#findContent(steps);
      await this.#follow(steps);
      await steps.finishing();
      // While the guest goes on, so that little is left for when its disk stands still.
      await this.#target.flush();
      before = await this.#drive.drained(async () => {
        await this.#copying.run(undefined);
        await this.#target.flush();
        this.#drive.watch = undefined;
        return steps.asked === "complete" ? this.#drive.replaceImage(this.#target) : undefined;
      });
      if (before !== undefined) await this.#end.changedOver(before);
    } finally {
      if (before === undefined) {
        await release(this.#drive, this);
        await this.#end.left(this.#target);
      }
    }
  }

  /** What is there to be copied. Writes that come meanwhile mark what they write themselves. */
  async #findContent(steps: JobSteps): Promise<void> {
    const { sync = "full", targetIsZero = false } = this.#options;
    if (sync === "none") return;
    const depth = this.#end.depth ?? (sync === "top" ? 1 : Number.POSITIVE_INFINITY);
    for await (const extent of extentsOf(this.#source)) {
      await steps.turn(0);
      if (extent.depth >= depth || (depth !== Number.POSITIVE_INFINITY && !extent.present)) continue;
      if (!(extent.zero && targetIsZero)) this.#mark(extent.start, extent.length);
    }
  }

  /** Copies what was written, until it is asked for its end and there is little left to do. */
  async #follow(steps: JobSteps): Promise<void> {
    const { bits } = this.#copying;
    for (;;) {
      await this.#copying.run(steps, () => steps.asked !== undefined && bits.dirtyBytes <= LAST_BYTES);
      await steps.turn(0);
      if (steps.asked !== undefined) return;
      if (bits.count > 0) continue;
      const woken = new Promise<void>((resolve) => {
        this.#dirtied = resolve;
      });
      steps.ready();
      await woken;
    }
  }
}
