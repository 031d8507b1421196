/** Copying between files in the kernel, which where a file system can gives both files the same blocks: copy_file_range(2). */

import { bind } from "./libc.ts";
import { addressOf } from "./memory.ts";
import type { CopiedPart } from "./part-copier.ts";

/** What the kernel is asked for, with both places as `int64_t *`, which it moves on. */
interface CopyRange {
  async(
    fromFd: number,
    from: number,
    toFd: number,
    to: number,
    length: number,
    flags: number,
    done: (error: Error | null, copied: number) => void,
  ): void;
}

let copyRange: CopyRange | undefined;

/** A list of parts, as a {@link PartCopier}'s. Zeros are not looked for. */
export class RangeCopier {
  readonly capacity: number;
  readonly anyZeros = false;
  readonly #parts: CopiedPart[] = [];
  readonly #done = new Set<number>();
  #stopped = false;

  constructor(capacity: number) {
    this.capacity = capacity;
  }

  get count(): number {
    return this.#parts.length;
  }

  clear(): void {
    this.#parts.length = 0;
    this.#done.clear();
  }

  push(part: CopiedPart): void {
    if (this.count === this.capacity) throw new RangeError(`the list has ${this.capacity} parts and is full`);
    this.#parts.push(part);
  }

  /** Copies the list, a part after the other. What fails is not {@link done}; what is behind it is tried all the same. */
  async copy(): Promise<void> {
    copyRange ??= bind(
      "intptr_t copy_file_range(int, intptr_t, int, intptr_t, size_t, uint32_t)",
    ) as unknown as CopyRange;
    for (const [index, part] of this.#parts.entries()) {
      if (this.#stopped) return;
      if (await copied(part)) this.#done.add(index);
    }
  }

  /** No part is begun any more. */
  stop(): void {
    this.#stopped = true;
  }

  /** Whether a part was copied as it was to be. */
  done(index: number): boolean {
    return this.#done.has(index);
  }

  hasZeros(_index: number): boolean {
    return false;
  }

  isZero(_index: number, _block: number, _count: number): boolean {
    return false;
  }
}

/** All of a part. The kernel may do less at a time than it is asked for. */
async function copied({ fromFd, from, toFd, to, length }: CopiedPart): Promise<boolean> {
  const places = BigInt64Array.of(BigInt(from), BigInt(to));
  const address = addressOf(places.buffer);
  for (let left = length; left > 0; ) {
    const step = await new Promise<number>((done, fail) => {
      copyRange!.async(fromFd, address, toFd, address + 8, left, 0, (error, count) =>
        error ? fail(error) : done(count),
      );
    });
    if (step <= 0) return false;
    left -= step;
  }
  // The places are the kernel's until here.
  return Number(places[1]) === to + length;
}
