/** Copying what an image holds into another that is empty: data is written, zeros are not. */

import { StorageError } from "./errors.ts";
import type { Store } from "./image.ts";

const STEP_BYTES = 1 << 20;
/** Steps under way at once, each with memory of its own. */
const STEPS = 4;

export interface CopyOptions {
  /** So many bytes of the source are done, data or not. */
  progress?: (doneBytes: number) => void;
  signal?: AbortSignal;
}

/** `target` reads as zeros, and is as long as `source` at least. */
export async function copyContent(source: Store, target: Store, { progress, signal }: CopyOptions = {}): Promise<void> {
  if (target.sizeBytes < source.sizeBytes) {
    throw new StorageError("STORAGE_IO", `${target.name} is smaller than ${source.name}`);
  }
  let next = 0;
  let done = 0;
  let planning: Promise<void> = Promise.resolve();
  /** The next run of data to be copied; workers take turns at looking for it. */
  const take = async (): Promise<{ at: number; length: number } | undefined> => {
    const mine = planning.then(async () => {
      while (next < source.sizeBytes) {
        const at = next;
        const { length, zero } = await source.status(at, source.sizeBytes - at);
        next += zero ? length : Math.min(length, STEP_BYTES);
        if (!zero) return { at, length: next - at };
        done += length;
        progress?.(done);
      }
      return undefined;
    });
    planning = mine.then(
      () => {},
      () => {},
    );
    return await mine;
  };
  const work = async () => {
    const memory = Buffer.alloc(STEP_BYTES);
    for (let run = await take(); run !== undefined; run = await take()) {
      signal?.throwIfAborted();
      const bytes = memory.subarray(0, run.length);
      await source.read(run.at, [bytes]);
      if (!isZero(bytes)) await target.write(run.at, [bytes]);
      done += run.length;
      progress?.(done);
    }
  };
  await settled(Array.from({ length: STEPS }, work));
  await target.flush();
}

/** All have ended before one's failure is told: nothing is under way when the caller closes what they use. */
async function settled(works: Promise<void>[]): Promise<void> {
  for (const outcome of await Promise.allSettled(works)) if (outcome.status === "rejected") throw outcome.reason;
}

const ZEROS = Buffer.alloc(STEP_BYTES);

function isZero(bytes: Buffer): boolean {
  return bytes.equals(ZEROS.subarray(0, bytes.length));
}
