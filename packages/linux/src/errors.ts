/** A failed system call as an error in Node's own shape. */

import { constants } from "node:os";
import { lastErrno } from "./libc.ts";

/**
 * libuv's table has negative numbers as keys: -errno → [code, message]. `node:util` is loaded by the first error: an import of
 * it brings a tenth of the code that Node has, and takes as long as all of this package.
 */
let table: Map<number, [string, string]> | undefined;

function known(): Map<number, [string, string]> {
  table ??= process.getBuiltinModule("node:util").getSystemErrorMap();
  return table;
}

/** `errno` numbers that callers decide on (asm-generic/errno-base.h and errno.h). */
export const Errno = {
  EPERM: 1,
  ENOENT: 2,
  ESRCH: 3,
  EINTR: 4,
  ENXIO: 6,
  E2BIG: 7,
  EBADF: 9,
  EAGAIN: 11,
  ENOMEM: 12,
  EACCES: 13,
  EFAULT: 14,
  EBUSY: 16,
  EEXIST: 17,
  ENODEV: 19,
  EINVAL: 22,
  ENFILE: 23,
  EMFILE: 24,
  ENOTTY: 25,
  ENOSPC: 28,
  ENAMETOOLONG: 36,
  EMSGSIZE: 90,
  ENOTSUP: 95,
  EAFNOSUPPORT: 97,
  EADDRINUSE: 98,
  EADDRNOTAVAIL: 99,
  ENETUNREACH: 101,
  ECONNABORTED: 103,
  ECONNRESET: 104,
  ENOBUFS: 105,
  ETIMEDOUT: 110,
  ECONNREFUSED: 111,
  EHOSTUNREACH: 113,
  EINPROGRESS: 115,
} as const;

/** The name of an error that libuv does not know, such as `EINPROGRESS`. */
function nameOf(errno: number): string | undefined {
  return Object.entries(constants.errno).find(([, number]) => number === errno)?.[0];
}

/** What a system call refused, with the argument that matters in `subject`. */
export class SystemError extends Error {
  override readonly name = "SystemError";
  /** The symbolic code, such as `ENOENT`. */
  readonly code: string;
  /** The positive error number. */
  readonly errno: number;
  readonly syscall: string;
  /** The argument that matters: a path, a descriptor, an address range, a request by name. */
  readonly subject: string;

  constructor(errno: number, syscall: string, subject: string) {
    const [code, text] = known().get(-errno) ?? [nameOf(errno) ?? `E${errno}`, "unknown error"];
    super(`${syscall} ${subject}: ${text} (${code})`);
    this.code = code;
    this.errno = errno;
    this.syscall = syscall;
    this.subject = subject;
  }
}

/** Passes a result through, or throws what `errno` says when it is negative. */
export function check(result: number, syscall: string, subject: string | number): number {
  if (result < 0) throw new SystemError(lastErrno(), syscall, String(subject));
  return result;
}

/** An address or a length as people read it. */
export function hex(value: number | bigint): string {
  return `0x${value.toString(16)}`;
}
