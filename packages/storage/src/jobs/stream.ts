/** Stream: a disk's first image takes over what it has from the images below, which it then stands on no longer. */

import { DirtyBits, granularityFor } from "../bitmaps/dirty-bits.ts";
import { chainOf, indexOf } from "../chain.ts";
import type { Drive } from "../drive/drive.ts";
import { StorageError } from "../errors.ts";
import { extentsOf } from "../operations/extents.ts";
import { Qcow2Image } from "../qcow2/qcow2-image.ts";
import { cutChain } from "./chain.ts";
import { CopyError, Copying } from "./copying.ts";
import type { BlockJob, JobOptions, JobSteps } from "./job.ts";
import { type JobWork, nameOf, occupy, release } from "./occupy.ts";

export interface StreamOptions extends JobOptions {
  /** The image of the chain, by its name, that the first one is to stand on afterwards; default: none. */
  readonly base?: string;
}

/**
 * The disk's content stays the same at every moment. A job that fails or is cancelled leaves the chain as it is, and in the
 * first image what was taken over until then.
 */
export function startStream(drive: Drive, options: StreamOptions = {}): Promise<BlockJob> {
  return occupy(drive, "stream", options, () => {
    const { image } = drive;
    if (!(image instanceof Qcow2Image) || image.backing === undefined) {
      throw new StorageError("STORAGE_OPEN", `${image.name}: the image stands on no other: there is nothing to stream`);
    }
    if (image.readOnly) throw new StorageError("STORAGE_OPEN", `${image.name}: the image is read-only`);
    const base = options.base === undefined ? undefined : indexOf(chainOf(image), options.base);
    if (base === 0) throw new StorageError("STORAGE_OPEN", `${image.name}: the image cannot stand on itself`);
    return new Stream(drive, image, base);
  });
}

class Stream implements JobWork {
  readonly name = nameOf("stream");
  readonly #drive: Drive;
  readonly #image: Qcow2Image;
  readonly #base: number | undefined;
  readonly #copying: Copying;

  constructor(drive: Drive, image: Qcow2Image, base: number | undefined) {
    this.#drive = drive;
    this.#image = image;
    this.#base = base;
    const least = Math.max(65536, image.metadata.clusterSize);
    const bits = new DirtyBits(image.sizeBytes, granularityFor(image.sizeBytes, least));
    this.#copying = new Copying(bits, async (offset, length) => {
      // What stays below could be something else than zeros.
      await image.pull(offset, length, base !== undefined).catch((cause) => {
        throw new CopyError("write", cause);
      });
    });
  }

  async run(steps: JobSteps): Promise<void> {
    const { bits } = this.#copying;
    try {
      for await (const { start, length, depth, present, zero } of extentsOf(this.#image)) {
        await steps.turn(0);
        const stays = this.#base === undefined ? zero : depth >= this.#base;
        if (depth > 0 && present && !stays) bits.set(start, length);
      }
      steps.expect(bits.dirtyBytes);
      await this.#copying.run(steps);
      await steps.finishing();
      await cutChain(this.#drive, this.#image, this.#base);
    } finally {
      await release(this.#drive, this);
    }
  }
}
