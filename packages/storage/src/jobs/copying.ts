/** The loop of all block jobs: what the bits say is copied, a bounded number of transfers at a time. */

import type { DirtyBits, Range } from "../bitmaps/dirty-bits.ts";
import { StorageError } from "../errors.ts";
import { Claims } from "../gate.ts";
import type { Extent, Image } from "../image.ts";
import { settled } from "../settled.ts";
import type { JobSteps } from "./job.ts";

/** Transfers under way together, and bytes of one. */
const PARALLEL = 8;
const MOST_BYTES = 1 << 20;

/** A copy failed on one of its two sides. */
export class CopyError extends Error {
  readonly operation: "read" | "write";

  constructor(operation: "read" | "write", cause: unknown) {
    super((cause as Error).message, { cause });
    this.operation = operation;
  }
}

/** Ranges of a disk's bits that are copied, each by one at a time. */
export class Copying {
  readonly bits: DirtyBits;
  readonly #copy: (offset: number, length: number) => Promise<void>;
  readonly #claims = new Claims();
  #at = 0;

  /** `copy` makes the target what the source is there; it fails with a {@link CopyError}, or what ends the job. */
  constructor(bits: DirtyBits, copy: (offset: number, length: number) => Promise<void>) {
    this.bits = bits;
    this.#copy = copy;
  }

  /**
   * Copies until no bit is set and no transfer of its own is under way, or `enough` says so. Bits may be set meanwhile.
   * Without `steps` it neither waits for its turns nor tries again.
   */
  async run(steps: JobSteps | undefined, enough: () => boolean = () => false): Promise<void> {
    let failed = false;
    const worker = async () => {
      try {
        while (!failed && !enough() && this.bits.count > 0) await this.#step(steps);
      } catch (cause) {
        failed = true;
        throw cause;
      }
    };
    do await settled(Array.from({ length: PARALLEL }, worker));
    while (this.bits.count > 0 && !enough());
  }

  async #step(steps: JobSteps | undefined): Promise<void> {
    const next = this.#next(MOST_BYTES);
    if (next === undefined) return;
    await steps?.turn(next.length);
    const range = this.#next(next.length);
    if (range === undefined) return;
    this.#at = range.offset + range.length;
    try {
      await this.alone(range.offset, range.length, () => this.#copyAll(range, steps));
    } catch (cause) {
      if (!(cause instanceof CopyError)) throw cause;
      if (steps === undefined) throw cause.cause;
      await steps.failed(cause.cause as Error, cause.operation);
    }
  }

  /**
   * Copies what is still to be copied of a range that nobody else has. Not before may its bits be cleared: whoever has it,
   * and waits for nobody, would take it for copied, and overwrite it.
   */
  async #copyAll(range: Range, steps: JobSteps | undefined): Promise<void> {
    const end = range.offset + range.length;
    for (let at = range.offset; at < end; ) {
      const run = this.bits.next(at, end - at);
      if (run === undefined || run.offset >= end) return;
      const length = Math.min(run.length, end - run.offset);
      at = run.offset + length;
      // From here on the bit says whether it was written again.
      this.bits.clear(run.offset, length);
      try {
        await this.#copy(run.offset, length);
      } catch (cause) {
        this.bits.set(run.offset, length);
        throw cause;
      }
      steps?.did(length);
    }
  }

  #next(most: number): Range | undefined {
    return this.bits.next(this.#at, most) ?? this.bits.next(0, most);
  }

  /** Works while nobody else does on what the bits of this range stand for. */
  async alone<T>(offset: number, length: number, work: () => Promise<T>): Promise<T> {
    const { granularity } = this.bits;
    const last = Math.floor((offset + Math.max(length, 1) - 1) / granularity);
    const release = await this.#claims.take(Math.floor(offset / granularity), last);
    try {
      return await work();
    } finally {
      release();
    }
  }
}

/** Makes ranges of the target what they are in the source; zeros without moving any. */
export class RangeCopy {
  readonly #source: Image;
  readonly #target: Image;
  readonly #skips: (extent: Extent) => boolean;
  /** Memory that is used again: getting it from the kernel takes as long as copying it. */
  readonly #rooms: Buffer[] = [];

  /** What `skips` says is not copied. */
  constructor(source: Image, target: Image, skips: (extent: Extent) => boolean = () => false) {
    this.#source = source;
    this.#target = target;
    this.#skips = skips;
  }

  /** Nobody else writes there in the target meanwhile. */
  async copy(offset: number, length: number): Promise<void> {
    const room = this.#rooms.pop() ?? Buffer.allocUnsafeSlow(MOST_BYTES);
    try {
      for (let at = offset; at < offset + length; ) at += await this.#part(at, offset + length - at, room);
    } finally {
      if (this.#rooms.length < PARALLEL) this.#rooms.push(room);
    }
  }

  async #part(offset: number, most: number, room: Buffer): Promise<number> {
    const extent = await from("read", this.#source.status(offset, most));
    if (this.#skips(extent)) return extent.length;
    if (extent.zero) {
      await from("write", this.#target.writeZeroes(offset, extent.length, true));
      return extent.length;
    }
    const bytes = room.subarray(0, Math.min(extent.length, room.length));
    await from("read", this.#source.read(offset, [bytes]));
    await from("write", this.#target.write(offset, [bytes]));
    return bytes.length;
  }
}

async function from<T>(operation: "read" | "write", work: Promise<T>): Promise<T> {
  try {
    return await work;
  } catch (cause) {
    throw new CopyError(operation, cause);
  }
}

export function refuseSize(source: Image, target: Image): void {
  if (source.sizeBytes === target.sizeBytes) return;
  const sizes = `${target.sizeBytes} bytes, and ${source.name} ${source.sizeBytes}`;
  throw new StorageError("STORAGE_OPEN", `${target.name} has ${sizes}: source and target are of one size`);
}
