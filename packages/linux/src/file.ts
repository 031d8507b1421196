/** Files by descriptor, with data at raw addresses: open(2), read(2), preadv(2) and their kin. */

import { SystemCall, trySyscall, trySyscall6 } from "./direct-syscall.ts";
import { check, Errno, hex, SystemError } from "./errors.ts";
import { bind, lastErrno } from "./libc.ts";
import { addressOf } from "./memory.ts";

/** asm-generic/fcntl.h, as on x86-64 and arm64 alike except where said. */
export const OpenFlag = {
  RDONLY: 0,
  WRONLY: 1,
  RDWR: 2,
  CREAT: 0o100,
  EXCL: 0o200,
  TRUNC: 0o1000,
  NOCTTY: 0o400,
  NONBLOCK: 0o4000,
  CLOEXEC: 0o2000000,
  /** x86-64's number; arm64 has 0o200000. */
  DIRECT: process.arch === "arm64" ? 0o200000 : 0o40000,
} as const;

/** linux/fs.h, for {@link tryPreadv2}. */
export const TransferFlag = {
  /** Fails with EAGAIN instead of waiting for storage. */
  NOWAIT: 0x8,
} as const;

/** linux/falloc.h. */
export const AllocateFlag = {
  KEEP_SIZE: 0x1,
  /** Makes a hole, which reads as zeros; with `KEEP_SIZE` only. */
  PUNCH_HOLE: 0x2,
  /** Makes zeros without a hole. */
  ZERO_RANGE: 0x10,
} as const;

/** unistd.h, for {@link seekExtent}. */
export const Seek = { END: 2, DATA: 3, HOLE: 4 } as const;

type Transfer = (fd: number, address: number, length: number) => number;
type TransferBuffer = (fd: number, data: Uint8Array, length: number) => number;
type TransferAt = (fd: number, address: number, length: number, offset: number) => number;
type VectorAt = (fd: number, pieces: ArrayBuffer, count: number, offset: number) => number;
type VectorAt2 = (fd: number, pieces: ArrayBuffer, count: number, offset: number, flags: number) => number;

const c = {
  read: bind<Transfer>("intptr_t read(int, intptr_t, size_t)"),
  write: bind<Transfer>("intptr_t write(int, intptr_t, size_t)"),
  readBuffer: bind<TransferBuffer>("intptr_t read(int, void *, size_t)"),
  writeBuffer: bind<TransferBuffer>("intptr_t write(int, const void *, size_t)"),
  pread: bind<TransferAt>("intptr_t pread(int, intptr_t, size_t, int64_t)"),
  pwrite: bind<TransferAt>("intptr_t pwrite(int, intptr_t, size_t, int64_t)"),
  preadv: bind<VectorAt>("intptr_t preadv(int, const void *, int, int64_t)"),
  pwritev: bind<VectorAt>("intptr_t pwritev(int, const void *, int, int64_t)"),
  preadv2: bind<VectorAt2>("intptr_t preadv2(int, const void *, int, int64_t, int)"),
  pwritev2: bind<VectorAt2>("intptr_t pwritev2(int, const void *, int, int64_t, int)"),
  fcntl: bind<(fd: number, command: number, value: number) => number>("int fcntl(int, int, int)"),
  lseek: bind<(fd: number, offset: number, whence: number) => number>("int64_t lseek(int, int64_t, int)"),
  ftruncate: bind<(fd: number, length: number) => number>("int ftruncate(int, int64_t)"),
  fallocate: bind<(fd: number, mode: number, offset: number, length: number) => number>(
    "int fallocate(int, int, int64_t, int64_t)",
  ),
};

/** Opens a file, close-on-exec always. `mode` counts only with `OpenFlag.CREAT`. */
export function open(path: string, flags: number, mode = 0o600): number {
  if (path !== lastPath) encodePath(path);
  pathAddress ||= addressOf(pathBytes);
  const fd = trySyscall6(SystemCall.openat, AT_FDCWD, pathAddress, flags | OpenFlag.CLOEXEC, mode, 0, 0);
  if (fd < 0) throw new SystemError(-fd, "open", path);
  return fd;
}

/** linux/fcntl.h: paths begin at the working directory. */
const AT_FDCWD = -100;
/** linux/limits.h, with the NUL. */
const PATH_MAX = 4096;

/** The path that was opened last, as the kernel reads it: converting it takes longer than opening the file. */
let lastPath = "";
const pathBytes = new Uint8Array(PATH_MAX);
let pathAddress = 0;

function encodePath(path: string): void {
  // The kernel would open the part before the NUL: another file than the caller named.
  if (path.includes("\0")) throw new SystemError(Errno.EINVAL, "open", JSON.stringify(path));
  const { read, written } = new TextEncoder().encodeInto(path, pathBytes.subarray(0, PATH_MAX - 1));
  if (read < path.length) throw new SystemError(Errno.ENAMETOOLONG, "open", `${path.slice(0, 64)}…`);
  pathBytes[written] = 0;
  lastPath = path;
}

/** fcntl.h. */
export const FileStatus = { GETFL: 3, SETFL: 4 } as const;

/** From now on a descriptor that somebody else opened does not wait: reads and writes fail with EAGAIN instead. */
export function setNonBlocking(fd: number): void {
  const flags = check(c.fcntl(fd, FileStatus.GETFL, 0), "fcntl", `fd ${fd}`);
  check(c.fcntl(fd, FileStatus.SETFL, flags | OpenFlag.NONBLOCK), "fcntl", `fd ${fd}`);
}

export function close(fd: number): void {
  const result = trySyscall(SystemCall.close, fd);
  if (result < 0) throw new SystemError(-result, "close", `fd ${fd}`);
}

/** A descriptor with an owner: closed once, however often it is asked to, so it never closes a successor's number. */
export class Descriptor implements Disposable {
  readonly fd: number;
  #open = true;

  constructor(fd: number) {
    this.fd = fd;
  }

  close(): void {
    if (!this.#open) return;
    this.#open = false;
    close(this.fd);
  }

  [Symbol.dispose](): void {
    this.close();
  }
}

/** Reads up to `length` bytes to `address`; returns the bytes read, 0 at the end of the file. */
export function read(fd: number, address: number, length: number): number {
  return check(c.read(fd, address, length), "read", `fd ${fd}`);
}

/** Writes up to `length` bytes from `address`; returns the bytes written. */
export function write(fd: number, address: number, length: number): number {
  return check(c.write(fd, address, length), "write", `fd ${fd}`);
}

/**
 * Reads into a buffer; returns the bytes read, or the negative `errno`: of a descriptor that does not block, `EAGAIN` is what
 * is expected.
 */
export function tryRead(fd: number, room: Uint8Array): number {
  const result = c.readBuffer(fd, room, room.length);
  return result < 0 ? -lastErrno() : result;
}

/** Writes a buffer, in the same way. */
export function tryWrite(fd: number, data: Uint8Array): number {
  const result = c.writeBuffer(fd, data, data.length);
  return result < 0 ? -lastErrno() : result;
}

/** {@link read} at a byte offset of the file. */
export function pread(fd: number, address: number, length: number, offset: number): number {
  return check(c.pread(fd, address, length, offset), "pread", at(fd, offset));
}

/** {@link write} at a byte offset of the file. */
export function pwrite(fd: number, address: number, length: number, offset: number): number {
  return check(c.pwrite(fd, address, length, offset), "pwrite", at(fd, offset));
}

/** Reads at a byte offset of the file into the pieces of `vector`, in order; returns the bytes read. */
export function preadv(fd: number, vector: IoVector, offset: number): number {
  return check(c.preadv(fd, vector.pieces, vector.count, offset), "preadv", at(fd, offset));
}

/** Writes the pieces of `vector`, in order, at a byte offset of the file; returns the bytes written. */
export function pwritev(fd: number, vector: IoVector, offset: number): number {
  return check(c.pwritev(fd, vector.pieces, vector.count, offset), "pwritev", at(fd, offset));
}

/**
 * {@link preadv} with `TransferFlag`s. Returns the bytes read, or the negative `errno`: whoever asks not to wait expects
 * to be refused.
 */
export function tryPreadv2(fd: number, vector: IoVector, offset: number, flags: number): number {
  const result = c.preadv2(fd, vector.pieces, vector.count, offset, flags);
  return result < 0 ? -lastErrno() : result;
}

/** {@link pwritev} in the same way. */
export function tryPwritev2(fd: number, vector: IoVector, offset: number, flags: number): number {
  const result = c.pwritev2(fd, vector.pieces, vector.count, offset, flags);
  return result < 0 ? -lastErrno() : result;
}

/** Allocates a range of a file, or with `AllocateFlag`s frees or zeroes it. */
export function fallocate(fd: number, mode: number, offset: number, length: number): void {
  check(c.fallocate(fd, mode, offset, length), "fallocate", `${at(fd, offset)}, ${length} bytes`);
}

/**
 * The first byte from `offset` on that is in data (`Seek.DATA`) or in a hole (`Seek.HOLE`; the end of the file is one).
 * Undefined where there is none: no data up to the end, or `offset` is behind it.
 */
export function seekExtent(fd: number, offset: number, whence: number): number | undefined {
  const found = c.lseek(fd, offset, whence);
  if (found < 0 && lastErrno() === Errno.ENXIO) return undefined;
  return check(found, "lseek", at(fd, offset));
}

/** Makes a file longer, with a hole, or shorter. */
export function ftruncate(fd: number, length: number): void {
  check(c.ftruncate(fd, length), "ftruncate", `fd ${fd} to ${length} bytes`);
}

/** struct iovec: u64 address, u64 length. */
const IOVEC_SIZE = 16;

/** A reusable `struct iovec[]`: pieces of memory by address. Filling and clearing it allocates nothing. */
export class IoVector {
  /** The array itself. System calls take it as a buffer, not by address, so that it lives as long as the call. */
  readonly pieces: ArrayBuffer;
  /** How many pieces fit; Linux takes 1024 (IOV_MAX) in one call. */
  readonly capacity: number;
  #count = 0;
  #bytes = 0;
  readonly #view: DataView;

  constructor(capacity: number) {
    this.capacity = capacity;
    this.pieces = new ArrayBuffer(capacity * IOVEC_SIZE);
    this.#view = new DataView(this.pieces);
  }

  get count(): number {
    return this.#count;
  }

  /** The sum of the pieces' lengths. */
  get bytes(): number {
    return this.#bytes;
  }

  clear(): void {
    this.#count = 0;
    this.#bytes = 0;
  }

  push(address: number, length: number): void {
    if (this.#count === this.capacity) throw new RangeError(`IoVector holds ${this.capacity} pieces and is full`);
    const offset = this.#count * IOVEC_SIZE;
    writeNumber64(this.#view, offset, address);
    writeNumber64(this.#view, offset + 8, length);
    this.#count += 1;
    this.#bytes += length;
  }
}

/** A number below 2^53 as a little-endian u64. */
export function writeNumber64(view: DataView, offset: number, value: number): void {
  view.setUint32(offset, value, true);
  view.setUint32(offset + 4, value / 2 ** 32, true);
}

function at(fd: number, offset: number): string {
  return `fd ${fd} at ${hex(offset)}`;
}
