/** Why a request on a shared folder is not done, in the guest's terms. */

import { SystemError } from "@lodge/linux";

/** What a request is refused with: Linux's numbers, which 9P2000.L and FUSE send as they are. */
export const Errno = {
  EPERM: 1,
  ENOENT: 2,
  EIO: 5,
  EBADF: 9,
  EEXIST: 17,
  ENOTDIR: 20,
  EISDIR: 21,
  EINVAL: 22,
  ENFILE: 23,
  EROFS: 30,
  ENAMETOOLONG: 36,
  ENOSYS: 38,
  EPROTO: 71,
  EOPNOTSUPP: 95,
  ESTALE: 116,
} as const;

/** A refusal that goes to the guest. */
export class Refusal extends Error {
  readonly errno: number;
  constructor(errno: number) {
    super(`errno ${errno}`);
    this.errno = errno;
  }
}

/** What the guest is told: the host's own number, where it has one. */
export function errnoOf(cause: unknown): number {
  if (cause instanceof Refusal || cause instanceof SystemError) return cause.errno;
  const { errno } = cause as NodeJS.ErrnoException;
  return typeof errno === "number" && errno < 0 ? -errno : Errno.EIO;
}
