/** A file of the host as a place for bytes. */

import { statfsSync } from "node:fs";
import { constants, type FileHandle, open } from "node:fs/promises";
import { AllocateFlag, Errno, fallocate, ftruncate, Seek, SystemError, seekExtent } from "@lodge/linux/files";
import { notFast, StorageError } from "../errors.ts";
import type { Extent, Store } from "../image.ts";
import { DirectTransfers } from "./direct-transfers.ts";
import { lockImage } from "./locks.ts";
import { cutPieces, fillPieces, type Pieces, totalBytes } from "./pieces.ts";
import { Transfers } from "./transfers.ts";

/** What zeros are written in where the file system has no quicker way. */
const ZEROS = Buffer.alloc(64 << 10);
/** linux/magic.h: EXT4_SUPER_MAGIC. */
const EXT4 = 0xef53;
/** A hole at a file's end ends in so many. */
const LAST_BYTES = 4096;

export interface HostFileOptions {
  readOnly?: boolean;
  /** Makes the file: one that is there already is refused, or with `replace` emptied. */
  create?: boolean | "replace";
  /** Keeps QEMU's locks; default true. Without them another's half-written state may be read. */
  lock?: boolean;
  /** Past the host's page cache (O_DIRECT). */
  direct?: boolean;
  /** Each write ends when it lasts (O_DSYNC). */
  through?: boolean;
  /** Default true; without it, flushes do nothing: what a host that fails leaves is anything. */
  flushes?: boolean;
}

interface Opened {
  readonly file: FileHandle;
  readonly direct: FileHandle | undefined;
  readonly isDevice: boolean;
  readonly sizeBytes: number;
}

export class HostFile implements Store {
  readonly name: string;
  readonly readOnly: boolean;
  readonly #file: FileHandle;
  /** The same file once more, with O_DIRECT, where that is wanted. */
  readonly #direct: FileHandle | undefined;
  readonly #transfers: Transfers | DirectTransfers;
  /** A block device: its size is the host's to change, and what was there before stays until it is written. */
  readonly isDevice: boolean;
  readonly #flushes: boolean;
  #sizeBytes: number;
  /** {@link reserve} is of use here. */
  #reserves: boolean | undefined;
  /** The file system can punch holes, and zero ranges. */
  readonly #can = { [AllocateFlag.PUNCH_HOLE]: true, [AllocateFlag.ZERO_RANGE]: true };

  private constructor(path: string, { file, direct, isDevice, sizeBytes }: Opened, options: HostFileOptions) {
    this.name = path;
    this.#file = file;
    this.#direct = direct;
    this.isDevice = isDevice;
    const cached = new Transfers(file.fd);
    this.#transfers = direct === undefined ? cached : new DirectTransfers(direct.fd, cached);
    this.#sizeBytes = sizeBytes;
    this.readOnly = options.readOnly ?? false;
    this.#flushes = options.flushes ?? true;
  }

  /** Opens a regular file or a block device. */
  static async open(path: string, options: HostFileOptions = {}): Promise<HostFile> {
    const { readOnly = false, create = false, lock = true, through = false } = options;
    let file: FileHandle | undefined;
    let direct: FileHandle | undefined;
    try {
      const making = create ? constants.O_CREAT | (create === "replace" ? 0 : constants.O_EXCL) : 0;
      // Opening a FIFO must not wait for its other end.
      const access =
        (readOnly ? constants.O_RDONLY : constants.O_RDWR) | constants.O_NONBLOCK | (through ? constants.O_DSYNC : 0);
      file = await open(path, access | making, 0o644);
      const stat = await file.stat();
      const isDevice = stat.isBlockDevice();
      if (!stat.isFile() && !isDevice) {
        throw new StorageError("STORAGE_OPEN", `${path} is neither a regular file nor a block device`);
      }
      if (lock) lockImage(file.fd, path, !readOnly);
      // Not before it is ours alone. A device keeps its size, and what is on it.
      if (create === "replace" && !isDevice) ftruncate(file.fd, 0);
      if (options.direct) direct = await openDirect(path, access);
      const sizeBytes = isDevice ? seekExtent(file.fd, 0, Seek.END)! : create ? 0 : stat.size;
      return new HostFile(path, { file, direct, isDevice, sizeBytes }, options);
    } catch (cause) {
      await direct?.close();
      await file?.close();
      if (cause instanceof StorageError) throw cause;
      // Node's message says the path once more.
      const why = (cause as Error).message.replace(/, open '.*'$/s, "");
      throw new StorageError("STORAGE_OPEN", `${path} cannot be opened: ${why}`, { cause });
    }
  }

  get sizeBytes(): number {
    return this.#sizeBytes;
  }

  async read(offset: number, pieces: Pieces): Promise<void> {
    const length = totalBytes(pieces);
    const inside = Math.max(0, Math.min(length, this.#sizeBytes - offset));
    try {
      const reading = this.#transfers.read(offset, inside === length ? pieces : cutPieces(pieces, 0, inside));
      const done = typeof reading === "number" ? reading : await reading;
      if (done < inside) throw new Error("the file has become shorter");
    } catch (cause) {
      throw this.#failed("read", cause);
    }
    if (inside < length) fillPieces(cutPieces(pieces, inside, length - inside), 0);
  }

  async write(offset: number, pieces: Pieces): Promise<void> {
    try {
      const writing = this.#transfers.write(offset, pieces);
      if (writing !== undefined) await writing;
    } catch (cause) {
      throw this.#failed("write", cause);
    }
    this.#sizeBytes = Math.max(this.#sizeBytes, offset + totalBytes(pieces));
  }

  /** The descriptor, for transfers that others make; undefined where they would have to go past the page cache. */
  get fd(): number | undefined {
    return this.#direct === undefined ? this.#file.fd : undefined;
  }

  /** Others have written up to here. */
  grown(end: number): void {
    this.#sizeBytes = Math.max(this.#sizeBytes, end);
  }

  /**
   * Sets space aside for what is to be written soon, without making the file longer: ext4 writes that a tenth quicker, where others
   * gain nothing. What is not written then is to be discarded, and what is behind the end {@link trim}med.
   */
  reserve(offset: number, length: number): void {
    if (this.#reserves === false) return;
    try {
      this.#reserves ??= !this.isDevice && statfsSync(this.name).type === EXT4;
      if (!this.#reserves) return;
      fallocate(this.#file.fd, AllocateFlag.KEEP_SIZE, offset, length);
    } catch {
      // Writing says why, unless it takes less.
      this.#reserves = false;
    }
  }

  /**
   * Gives back what was reserved behind the end, and has the file end where others said that it has {@link grown} to, when they
   * left out zeros there. Nobody may be writing.
   */
  trim(): void {
    if (this.isDevice) return;
    const end = seekExtent(this.#file.fd, 0, Seek.END)!;
    ftruncate(this.#file.fd, end);
    if (end < this.#sizeBytes) ftruncate(this.#file.fd, this.#sizeBytes);
  }

  async flush(): Promise<void> {
    if (!this.#flushes) return;
    try {
      await this.#file.datasync();
    } catch (cause) {
      throw this.#failed("flush", cause);
    }
  }

  async discard(offset: number, length: number): Promise<void> {
    this.#allocate(AllocateFlag.PUNCH_HOLE, offset, length);
  }

  async writeZeroes(offset: number, length: number, mayUnmap: boolean, onlyFast = false): Promise<void> {
    const done = this.#allocate(mayUnmap ? AllocateFlag.PUNCH_HOLE : AllocateFlag.ZERO_RANGE, offset, length);
    if (!done && onlyFast) throw notFast(this.name);
    for (let at = done ? length : 0; at < length; at += ZEROS.length) {
      await this.write(offset + at, [ZEROS.subarray(0, Math.min(ZEROS.length, length - at))]);
    }
    if (!done || offset + length <= this.#sizeBytes) return;
    // Neither hole nor zeros make the file longer. A write does, which cannot make it shorter where others write behind this.
    const last = Math.min(length, LAST_BYTES);
    await this.write(offset + length - last, [ZEROS.subarray(0, last)]);
  }

  /** A device's size is the host's to change; this takes over as much of it as there is. */
  async resize(sizeBytes: number): Promise<void> {
    try {
      if (this.isDevice) {
        const most = seekExtent(this.#file.fd, 0, Seek.END)!;
        if (sizeBytes > most) throw new Error(`the device has ${most} bytes, not ${sizeBytes}`);
      } else {
        ftruncate(this.#file.fd, sizeBytes);
      }
    } catch (cause) {
      throw this.#failed("resize", cause);
    }
    this.#sizeBytes = sizeBytes;
  }

  /** Sets space aside for a range, which must hold nothing yet; `written` also writes its zeros. */
  async fill(offset: number, length: number, written: boolean): Promise<void> {
    if (!written) {
      try {
        fallocate(this.#file.fd, 0, offset, length);
      } catch (cause) {
        throw this.#failed("preallocation", cause);
      }
      this.#sizeBytes = Math.max(this.#sizeBytes, offset + length);
      return;
    }
    for (let at = 0; at < length; at += ZEROS.length) {
      await this.write(offset + at, [ZEROS.subarray(0, Math.min(ZEROS.length, length - at))]);
    }
  }

  async status(offset: number, length: number): Promise<Extent> {
    const data = seekExtent(this.#file.fd, offset, Seek.DATA) ?? this.#sizeBytes;
    const here = { present: true, depth: 0, offset, name: this.name };
    if (data > offset) return { ...here, length: Math.min(length, data - offset), zero: true, data: false };
    const hole = seekExtent(this.#file.fd, offset, Seek.HOLE) ?? this.#sizeBytes;
    return { ...here, length: Math.min(length, hole - offset), zero: false, data: true };
  }

  async close(): Promise<void> {
    await this.#direct?.close();
    await this.#file.close();
  }

  /** Frees or zeroes a range; false where the file system cannot. */
  #allocate(how: 2 | 16, offset: number, length: number): boolean {
    if (!this.#can[how] || length === 0) return length === 0;
    try {
      fallocate(this.#file.fd, how | AllocateFlag.KEEP_SIZE, offset, length);
      return true;
    } catch (cause) {
      if (!(cause instanceof SystemError) || cause.errno !== Errno.ENOTSUP) throw this.#failed("zero", cause);
      this.#can[how] = false;
      return false;
    }
  }

  #failed(what: string, cause: unknown): StorageError {
    return new StorageError("STORAGE_IO", `${this.name}: ${what} failed: ${(cause as Error).message}`, { cause });
  }
}

async function openDirect(path: string, access: number): Promise<FileHandle> {
  try {
    return await open(path, access | constants.O_DIRECT);
  } catch (cause) {
    if ((cause as NodeJS.ErrnoException).code !== "EINVAL") throw cause;
    const message = `${path}: its file system cannot go past the page cache: cache=none is not possible here`;
    throw new StorageError("STORAGE_OPEN", message, { cause });
  }
}
