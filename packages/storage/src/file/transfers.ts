/** Moving a file's bytes from and to pieces of memory, without a copy in between and without waiting for the host's disk. */

import { readv, writev } from "node:fs";
import {
  addressOf,
  Errno,
  IoVector,
  TransferFlag,
  tryPreadv2,
  tryPwritev2,
  voluntarySwitches,
} from "@lodge/linux/files";
import { totalBytes } from "./pieces.ts";

/** Linux's IOV_MAX: pieces of one transfer. */
export const MOST_PIECES = 1024;
/** Copying more than this at once holds up the other devices. */
const QUICK_READ_BYTES = 1 << 20;
/** Longer ones take longer than the detour by the pool, where they go on beside this thread. */
const QUICK_WRITE_BYTES = 256 << 10;
/** A write into the page cache that took longer than this was made to wait, or just preempted: so many others are watched. */
const SLOW_MS = 5;
const WATCHED_WRITES = 4096;
/** When the kernel lets writers wait, so many others go to the pool. */
const HELD_BACK_WRITES = 256;

/** As `promisify` has it, whose module takes as long to load as all of this package. */
export function readPool(fd: number, pieces: Uint8Array[], offset: number): Promise<number> {
  return new Promise((done, fail) => {
    readv(fd, pieces, offset, (error, bytes) => (error ? fail(error) : done(bytes)));
  });
}

export function writePool(fd: number, pieces: Uint8Array[], offset: number): Promise<number> {
  return new Promise((done, fail) => {
    writev(fd, pieces, offset, (error, bytes) => (error ? fail(error) : done(bytes)));
  });
}

const vector = new IoVector(MOST_PIECES);
/** Where the memory of pieces begins; guest memory is one buffer for the machine's life. */
const addresses = new WeakMap<ArrayBufferLike, number>();

/** One open file's transfers. The descriptor stays the caller's, open until the last transfer has ended. */
export class Transfers {
  readonly #fd: number;
  /** The file system's reads can be asked not to wait. */
  #tryReads = true;
  /** Writes that are still the pool's. */
  #heldBack = 0;
  /** Writes of which it is still asked whether they wait. */
  #watched = 0;

  constructor(fd: number) {
    this.#fd = fd;
  }

  /**
   * Fills `pieces` from `offset` on; answers how many bytes there were before the file's end. What the page cache has is
   * copied at once, without a promise: a detour by the thread pool costs 20 times as much (60 us to 3 us). The pool reads
   * the rest.
   */
  read(offset: number, pieces: readonly Uint8Array[]): number | Promise<number> {
    const length = totalBytes(pieces);
    let done = 0;
    if (this.#tryReads && length <= QUICK_READ_BYTES && gather(pieces)) {
      const result = tryPreadv2(this.#fd, vector, offset, TransferFlag.NOWAIT);
      if (result === -Errno.ENOTSUP) this.#tryReads = false;
      if (result > 0) done = result;
    }
    return done === length ? done : this.#readRest(offset, pieces, length, done);
  }

  /**
   * Writes `pieces` from `offset` on; answers with a promise if that takes time. A write usually ends in the page cache,
   * which is as quick as reading from it. When the kernel holds writers back (its dirty pages are too many), this thread must
   * not be the one that waits: the pool writes for a while.
   */
  write(offset: number, pieces: readonly Uint8Array[]): Promise<void> | undefined {
    const length = totalBytes(pieces);
    let done = 0;
    if (this.#heldBack > 0) {
      this.#heldBack -= 1;
    } else if (length <= QUICK_WRITE_BYTES && gather(pieces)) {
      done = Math.max(0, this.#writeNow(offset));
    }
    return done === length ? undefined : this.#writeRest(offset, pieces, length, done);
  }

  /** Writes what is in the vector; returns how many bytes, or the negative `errno`. */
  #writeNow(offset: number): number {
    const watched = this.#watched > 0;
    const waits = watched ? voluntarySwitches() : 0;
    const start = performance.now();
    const result = tryPwritev2(this.#fd, vector, offset, 0);
    if (watched) this.#watched -= 1;
    if (performance.now() - start <= SLOW_MS) return result;
    // On a busy machine most slow ones were preempted, which the pool's threads would be as well.
    if (!watched) this.#watched = WATCHED_WRITES;
    else if (voluntarySwitches() !== waits) this.#heldBack = HELD_BACK_WRITES;
    return result;
  }

  async #readRest(offset: number, pieces: readonly Uint8Array[], length: number, done: number): Promise<number> {
    while (done < length) {
      const bytesRead = await readPool(this.#fd, rest(pieces, done), offset + done);
      if (bytesRead === 0) break;
      done += bytesRead;
    }
    return done;
  }

  async #writeRest(offset: number, pieces: readonly Uint8Array[], length: number, done: number): Promise<void> {
    while (done < length) {
      done += await writePool(this.#fd, rest(pieces, done), offset + done);
    }
  }
}

/** Puts the pieces into the vector; false when they do not fit. */
function gather(pieces: readonly Uint8Array[]): boolean {
  if (pieces.length > MOST_PIECES) return false;
  vector.clear();
  for (const piece of pieces) vector.push(addressOfBuffer(piece.buffer) + piece.byteOffset, piece.length);
  return true;
}

export function addressOfBuffer(buffer: ArrayBufferLike): number {
  let address = addresses.get(buffer);
  if (address === undefined) {
    address = addressOf(buffer);
    addresses.set(buffer, address);
  }
  return address;
}

/** The pieces behind the first `done` bytes, at most as many as one call takes. */
export function rest(pieces: readonly Uint8Array[], done: number, most = MOST_PIECES): Uint8Array[] {
  const left: Uint8Array[] = [];
  for (const piece of pieces) {
    if (done >= piece.length) {
      done -= piece.length;
      continue;
    }
    left.push(done === 0 ? piece : piece.subarray(done));
    done = 0;
    if (left.length === most) break;
  }
  return left;
}
