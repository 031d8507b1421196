/** Commit: what images of a disk's chain hold goes down into one below them, and the chain becomes shorter. */

import { DirtyBits, granularityFor } from "../bitmaps/dirty-bits.ts";
import { above, chainOf, indexOf } from "../chain.ts";
import type { Drive } from "../drive/drive.ts";
import { StorageError } from "../errors.ts";
import type { Image } from "../image.ts";
import { extentsOf } from "../operations/extents.ts";
import type { Qcow2Image } from "../qcow2/qcow2-image.ts";
import { cutChain, reopenBacking } from "./chain.ts";
import { Copying, RangeCopy } from "./copying.ts";
import type { BlockJob, JobOptions, JobSteps } from "./job.ts";
import { Mirror } from "./mirror.ts";
import { type JobWork, nameOf, occupy, release } from "./occupy.ts";

export interface CommitOptions extends JobOptions {
  /** The first image, by its name, whose content goes down; default: the disk's first. */
  readonly top?: string;
  /** The image that it goes into; default: the last of the chain. */
  readonly base?: string;
}

/**
 * With the disk's first image as `top`, this is a mirror onto `base`: when it is ready, `complete` has the disk go on there.
 * Else it completes by itself, and the image above `top` stands on `base` then. The disk's content stays the same at every
 * moment: where `base` is written, images above hide it. A job that fails or is cancelled leaves the chain as it is.
 */
export function startCommit(drive: Drive, options: CommitOptions = {}): Promise<BlockJob> {
  return occupy(drive, "commit", options, async () => {
    const chain = chainOf(drive.image);
    const top = options.top === undefined ? 0 : indexOf(chain, options.top);
    const base = options.base === undefined ? chain.length - 1 : indexOf(chain, options.base);
    const [from, into] = [chain[top]!, chain[base]!];
    const refuse = (why: string) => new StorageError("STORAGE_OPEN", `${from.name}: ${why}`);
    if (base <= top) throw refuse(`it does not stand on ${into.name}`);
    if (into.sizeBytes > from.sizeBytes) {
      throw refuse(`it is shorter than ${into.name}, whose end would show again: resize it first`);
    }
    if (top === 0 && drive.readOnly) throw refuse("the disk is read-only, and cannot go on below");
    const parent = above(chain, base);
    const target = await reopenBacking(drive, parent, false);
    try {
      if (target.sizeBytes < from.sizeBytes) await target.resize(from.sizeBytes);
      if (top > 0) return new Commit(drive, { top, base, from, target, parent });
      return new Mirror("commit", drive, target, options, {
        depth: base,
        changedOver: async (before) => {
          parent.backing = undefined;
          await before.close();
        },
        left: async () => void (await reopenBacking(drive, parent, true)),
      });
    } catch (cause) {
      await reopenBacking(drive, parent, true);
      throw cause;
    }
  });
}

interface CommitParts {
  /** Their places in the chain. */
  top: number;
  base: number;
  from: Image;
  /** The base, to be written. */
  target: Image;
  /** What stands on the base. */
  parent: Qcow2Image;
}

/** What nobody writes goes down. */
class Commit implements JobWork {
  readonly name = nameOf("commit");
  readonly #drive: Drive;
  readonly #parts: CommitParts;
  readonly #copying: Copying;

  constructor(drive: Drive, parts: CommitParts) {
    this.#drive = drive;
    this.#parts = parts;
    const { from, target } = parts;
    const bits = new DirtyBits(from.sizeBytes, granularityFor(from.sizeBytes, 65536));
    const copy = new RangeCopy(from, target);
    this.#copying = new Copying(bits, (offset, length) => copy.copy(offset, length));
  }

  async run(steps: JobSteps): Promise<void> {
    const { top, base } = this.#parts;
    try {
      await this.#goDown(steps);
      await cutChain(this.#drive, above(chainOf(this.#drive.image), top), base);
    } finally {
      await release(this.#drive, this);
    }
  }

  async #goDown(steps: JobSteps): Promise<void> {
    const { top, base, from, target, parent } = this.#parts;
    const { bits } = this.#copying;
    try {
      for await (const { start, length, depth, present } of extentsOf(from)) {
        await steps.turn(0);
        if (present && depth < base - top) bits.set(start, length);
      }
      steps.expect(bits.dirtyBytes);
      await this.#copying.run(steps);
      await steps.finishing();
      await target.flush();
    } finally {
      await reopenBacking(this.#drive, parent, true);
    }
  }
}
