/** Locks of byte ranges that belong to an open file, not to a process: fcntl(2), "Open file description locks". */

import { Errno, SystemError } from "./errors.ts";
import { bind, lastErrno } from "./libc.ts";

/** asm-generic/fcntl.h: F_OFD_*, F_RDLCK and its kin. */
export const Fcntl = { OFD_GETLK: 36, OFD_SETLK: 37, RDLCK: 0, WRLCK: 1, UNLCK: 2 } as const;
/** struct flock of 64-bit Linux. */
export const Flock = { TYPE: 0, WHENCE: 2, START: 8, LEN: 16, PID: 24, SIZE: 32 } as const;

const fcntl = bind<(fd: number, command: number, lock: ArrayBuffer) => number>("int fcntl(int, int, void *)");

const view = new DataView(new ArrayBuffer(Flock.SIZE));

function call(fd: number, command: number, type: number, start: number, length: number): number {
  view.setInt16(Flock.TYPE, type, true);
  view.setInt16(Flock.WHENCE, 0, true);
  view.setBigInt64(Flock.START, BigInt(start), true);
  view.setBigInt64(Flock.LEN, BigInt(length), true);
  view.setInt32(Flock.PID, 0, true);
  return fcntl(fd, command, view.buffer as ArrayBuffer) < 0 ? lastErrno() : 0;
}

function refused(errno: number, fd: number, start: number, length: number): SystemError {
  return new SystemError(errno, "fcntl", `fd ${fd}, lock of ${length} bytes at ${start}`);
}

/**
 * Takes (`Fcntl.RDLCK` shared, `Fcntl.WRLCK` alone) or gives back (`Fcntl.UNLCK`) a lock on bytes, which need not exist.
 * False where another open file holds one that excludes it. Closing the last descriptor of the open file gives all back.
 */
export function lockRange(fd: number, type: number, start: number, length: number): boolean {
  const errno = call(fd, Fcntl.OFD_SETLK, type, start, length);
  if (errno === 0) return true;
  if (errno === Errno.EAGAIN || errno === Errno.EACCES) return false;
  throw refused(errno, fd, start, length);
}

/** Whether {@link lockRange} would succeed; takes nothing. */
export function canLockRange(fd: number, type: number, start: number, length: number): boolean {
  const errno = call(fd, Fcntl.OFD_GETLK, type, start, length);
  if (errno !== 0) throw refused(errno, fd, start, length);
  return view.getInt16(Flock.TYPE, true) === Fcntl.UNLCK;
}
