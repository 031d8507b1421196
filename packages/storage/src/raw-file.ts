/** A disk that is a file of the same bytes. */

import { constants, type FileHandle, open } from "node:fs/promises";
import {
  AllocateFlag,
  addressOf,
  Errno,
  fallocate,
  IoVector,
  SystemError,
  TransferFlag,
  tryPreadv2,
  tryPwritev2,
} from "@lodge/linux";
import type { Disk } from "./disk.ts";
import { StorageError } from "./errors.ts";

const SECTOR = 512;
/** Linux's IOV_MAX: pieces of one transfer. */
const MOST_PIECES = 1024;
/** What zeros are written in where the file system has no quicker way. */
const ZEROS = new Uint8Array(1 << 20);

/** Copying more than this at once holds up the other devices. */
const QUICK_BYTES = 1 << 20;
/** A write into the page cache that took longer than this was made to wait; so many others then go to the pool. */
const HELD_BACK_MS = 5;
const HELD_BACK_WRITES = 256;

export interface RawFileOptions {
  readOnly?: boolean;
}

export class RawFile implements Disk {
  readonly path: string;
  readonly sizeBytes: number;
  readonly readOnly: boolean;
  readonly #file: FileHandle;
  readonly #vector = new IoVector(MOST_PIECES);
  /** Where the memory of pieces begins; guest memory is one buffer for the machine's life. */
  readonly #addresses = new WeakMap<ArrayBufferLike, number>();
  /** The file system's reads can be asked not to wait. */
  #tryReads = true;
  /** Writes that are still the pool's. */
  #heldBack = 0;
  #canFree = true;

  private constructor(path: string, file: FileHandle, sizeBytes: number, readOnly: boolean) {
    this.path = path;
    this.#file = file;
    this.sizeBytes = sizeBytes;
    this.readOnly = readOnly;
  }

  /** Opens a regular file or block device whose size is a multiple of 512. */
  static async open(path: string, { readOnly = false }: RawFileOptions = {}): Promise<RawFile> {
    let file: FileHandle | undefined;
    try {
      file = await open(path, readOnly ? constants.O_RDONLY : constants.O_RDWR);
      const stat = await file.stat();
      if (!stat.isFile()) throw new StorageError("STORAGE_OPEN", `${path} is not a regular file`);
      if (stat.size === 0 || stat.size % SECTOR !== 0) {
        throw new StorageError(
          "STORAGE_OPEN",
          `${path} has ${stat.size} bytes: a raw disk has a multiple of ${SECTOR}`,
        );
      }
      return new RawFile(path, file, stat.size, readOnly);
    } catch (cause) {
      await file?.close();
      if (cause instanceof StorageError) throw cause;
      throw new StorageError("STORAGE_OPEN", `${path} cannot be opened: ${(cause as Error).message}`, { cause });
    }
  }

  /**
   * What the page cache has is copied at once: a detour by the thread pool costs 20 times as much (60 us to 3 us). The
   * rest is read by the pool, as this thread must not wait.
   */
  async read(offset: number, pieces: readonly Uint8Array[]): Promise<void> {
    const length = total(pieces);
    let done = 0;
    if (this.#tryReads && length <= QUICK_BYTES && this.#gather(pieces)) {
      const result = tryPreadv2(this.#file.fd, this.#vector, offset, TransferFlag.NOWAIT);
      if (result === -Errno.ENOTSUP) this.#tryReads = false;
      if (result > 0) done = result;
    }
    while (done < length) {
      const { bytesRead } = await this.#transfer("read", () => this.#file.readv(rest(pieces, done), offset + done));
      if (bytesRead === 0) throw this.#failed("read", new Error("the file has become shorter"));
      done += bytesRead;
    }
  }

  /**
   * A write usually ends in the page cache, which is as quick as reading from it. When the kernel holds writers back
   * (its dirty pages are too many), this thread must not be the one that waits: the pool writes for a while.
   */
  async write(offset: number, pieces: readonly Uint8Array[]): Promise<void> {
    const length = total(pieces);
    let done = 0;
    if (this.#heldBack > 0) {
      this.#heldBack -= 1;
    } else if (length <= QUICK_BYTES && this.#gather(pieces)) {
      const start = performance.now();
      done = Math.max(0, tryPwritev2(this.#file.fd, this.#vector, offset, 0));
      if (performance.now() - start > HELD_BACK_MS) this.#heldBack = HELD_BACK_WRITES;
    }
    while (done < length) {
      const { bytesWritten } = await this.#transfer("write", () =>
        this.#file.writev(rest(pieces, done), offset + done),
      );
      done += bytesWritten;
    }
  }

  async flush(): Promise<void> {
    await this.#transfer("flush", () => this.#file.datasync());
  }

  async discard(offset: number, length: number): Promise<void> {
    this.#allocate(AllocateFlag.PUNCH_HOLE | AllocateFlag.KEEP_SIZE, offset, length);
  }

  async writeZeroes(offset: number, length: number, mayUnmap: boolean): Promise<void> {
    const how = mayUnmap ? AllocateFlag.PUNCH_HOLE : AllocateFlag.ZERO_RANGE;
    if (this.#allocate(how | AllocateFlag.KEEP_SIZE, offset, length)) return;
    for (let done = 0; done < length; done += ZEROS.length) {
      await this.write(offset + done, [ZEROS.subarray(0, Math.min(ZEROS.length, length - done))]);
    }
  }

  async close(): Promise<void> {
    await this.#file.close();
  }

  /** Frees or zeroes a range; false where the file system cannot. */
  #allocate(mode: number, offset: number, length: number): boolean {
    if (!this.#canFree || length === 0) return length === 0;
    try {
      fallocate(this.#file.fd, mode, offset, length);
      return true;
    } catch (cause) {
      if (!(cause instanceof SystemError) || cause.errno !== Errno.ENOTSUP) throw this.#failed("zero", cause);
      this.#canFree = false;
      return false;
    }
  }

  /** Puts the pieces into the vector; false when they do not fit. */
  #gather(pieces: readonly Uint8Array[]): boolean {
    if (pieces.length > MOST_PIECES) return false;
    this.#vector.clear();
    for (const piece of pieces) {
      let address = this.#addresses.get(piece.buffer);
      if (address === undefined) {
        address = addressOf(piece.buffer);
        this.#addresses.set(piece.buffer, address);
      }
      this.#vector.push(address + piece.byteOffset, piece.length);
    }
    return true;
  }

  async #transfer<T>(what: string, transfer: () => Promise<T>): Promise<T> {
    try {
      return await transfer();
    } catch (cause) {
      throw this.#failed(what, cause);
    }
  }

  #failed(what: string, cause: unknown): StorageError {
    return new StorageError("STORAGE_IO", `${this.path}: ${what} failed: ${(cause as Error).message}`, { cause });
  }
}

function total(pieces: readonly Uint8Array[]): number {
  let bytes = 0;
  for (const piece of pieces) bytes += piece.length;
  return bytes;
}

/** The pieces behind the first `done` bytes, as many as one call takes. */
function rest(pieces: readonly Uint8Array[], done: number): Uint8Array[] {
  const left: Uint8Array[] = [];
  for (const piece of pieces) {
    if (done >= piece.length) {
      done -= piece.length;
      continue;
    }
    left.push(done === 0 ? piece : piece.subarray(done));
    done = 0;
    if (left.length === MOST_PIECES) break;
  }
  return left;
}
