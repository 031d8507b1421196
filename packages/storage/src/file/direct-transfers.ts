/**
 * Transfers past the host's page cache: O_DIRECT, which wants offset, lengths and addresses in whole blocks. A guest's
 * transfers are that; what is not (a format's own tables, the end of a file) goes through the page cache, which the kernel
 * keeps in line with the file.
 */

import { readvSync } from "node:fs";
import { totalBytes } from "./pieces.ts";
import { addressOfBuffer, readPool, rest, type Transfers, writePool } from "./transfers.ts";

/** Logical blocks of disks: what O_DIRECT may want. */
const BLOCKS = [512, 4096] as const;
const MOST_BLOCK = 4096;

export class DirectTransfers {
  readonly #fd: number;
  readonly #block: number;
  readonly #cached: Transfers;

  /** `fd` was opened with O_DIRECT; `cached` has the same file without. */
  constructor(fd: number, cached: Transfers) {
    this.#fd = fd;
    this.#cached = cached;
    this.#block = BLOCKS.find((block) => takes(fd, block)) ?? MOST_BLOCK;
  }

  async read(offset: number, pieces: readonly Uint8Array[]): Promise<number> {
    const length = totalBytes(pieces);
    let done = 0;
    while (done < length) {
      const left = rest(pieces, done);
      if (!this.#isAligned(offset + done, left)) break;
      const bytesRead = await readPool(this.#fd, left, offset + done);
      done += bytesRead;
      if (bytesRead === 0) return done;
    }
    return done === length ? done : done + (await this.#cached.read(offset + done, all(pieces, done)));
  }

  async write(offset: number, pieces: readonly Uint8Array[]): Promise<void> {
    const length = totalBytes(pieces);
    let done = 0;
    while (done < length) {
      const left = rest(pieces, done);
      if (!this.#isAligned(offset + done, left)) break;
      done += await writePool(this.#fd, left, offset + done);
    }
    if (done < length) await this.#cached.write(offset + done, all(pieces, done));
  }

  #isAligned(offset: number, pieces: readonly Uint8Array[]): boolean {
    const isWhole = (value: number) => value % this.#block === 0;
    return (
      isWhole(offset) &&
      pieces.every((piece) => isWhole(piece.length) && isWhole(addressOfBuffer(piece.buffer) + piece.byteOffset))
    );
  }
}

/** What is left of all pieces, however many. */
function all(pieces: readonly Uint8Array[], done: number): readonly Uint8Array[] {
  return done === 0 ? pieces : rest(pieces, done, Number.POSITIVE_INFINITY);
}

/** Whether transfers of this block size are possible. Nothing is read that anybody wants. */
function takes(fd: number, block: number): boolean {
  const memory = new Uint8Array(3 * MOST_BLOCK);
  // A multiple of this block size and of no larger one.
  const start = MOST_BLOCK - (addressOfBuffer(memory.buffer) % MOST_BLOCK) + (block === MOST_BLOCK ? 0 : block);
  try {
    // At an odd block, too: an offset of 0 is a multiple of everything.
    readvSync(fd, [memory.subarray(start, start + block)], block);
    return true;
  } catch {
    // EINVAL: larger blocks are wanted.
    return false;
  }
}
