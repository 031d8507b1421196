/** A disk that is a file of the same bytes. */

import { constants, type FileHandle, open } from "node:fs/promises";
import { AllocateFlag, Errno, fallocate, SystemError } from "@lodge/linux";
import type { Disk } from "./disk.ts";
import { StorageError } from "./errors.ts";
import { Transfers } from "./transfers.ts";

const SECTOR = 512;
/** What zeros are written in where the file system has no quicker way. */
const ZEROS = new Uint8Array(1 << 20);

export interface RawFileOptions {
  readOnly?: boolean;
}

export class RawFile implements Disk {
  readonly path: string;
  readonly sizeBytes: number;
  readonly readOnly: boolean;
  readonly #file: FileHandle;
  readonly #transfers: Transfers;
  #canFree = true;

  private constructor(path: string, file: FileHandle, sizeBytes: number, readOnly: boolean) {
    this.path = path;
    this.#file = file;
    this.#transfers = new Transfers(file.fd);
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

  async read(offset: number, pieces: readonly Uint8Array[]): Promise<void> {
    const done = await this.#try("read", () => this.#transfers.read(offset, pieces));
    const length = pieces.reduce((sum, piece) => sum + piece.length, 0);
    if (done < length) throw this.#failed("read", new Error("the file has become shorter"));
  }

  async write(offset: number, pieces: readonly Uint8Array[]): Promise<void> {
    await this.#try("write", () => this.#transfers.write(offset, pieces));
  }

  async flush(): Promise<void> {
    await this.#try("flush", () => this.#file.datasync());
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

  async #try<T>(what: string, transfer: () => Promise<T>): Promise<T> {
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
