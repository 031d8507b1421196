/**
 * Files relative to a folder that is held open: openat(2) and its kin. Whoever goes one name at a time and follows no
 * symbolic link cannot be led out of a tree, whatever is renamed meanwhile.
 */

import { check, Errno, SystemError } from "./errors.ts";
import { OpenFlag } from "./file.ts";
import { bind } from "./libc.ts";

/** asm-generic/fcntl.h; x86-64's and arm64's numbers differ in two. */
export const FolderFlag = {
  DIRECTORY: process.arch === "arm64" ? 0o40000 : 0o200000,
  NOFOLLOW: process.arch === "arm64" ? 0o100000 : 0o400000,
  /** A descriptor that names a file without opening it. */
  PATH: 0o10000000,
} as const;

/** linux/fcntl.h: AT_*. */
export const At = { FDCWD: -100, SYMLINK_FOLLOW: 0x400 } as const;

/** struct linux_dirent64: u64 inode, i64 offset of the next entry, u16 length, u8 type, name with its NUL. */
export const Dirent = { INODE: 0, OFFSET: 8, LENGTH: 16, TYPE: 18, NAME: 19 } as const;

/** A path as bytes, which is what Linux has. */
export type PathBytes = Uint8Array;

const c = {
  openat: bind<(dirfd: number, path: PathBytes, flags: number, mode: number) => number>(
    "int openat(int, const void *, int, unsigned int)",
  ),
  readlinkat: bind<(dirfd: number, path: PathBytes, into: Uint8Array, length: number) => number>(
    "intptr_t readlinkat(int, const void *, void *, size_t)",
  ),
  linkat: bind<(olddir: number, oldpath: PathBytes, newdir: number, newpath: PathBytes, flags: number) => number>(
    "int linkat(int, const void *, int, const void *, int)",
  ),
  getdents64: bind<(fd: number, into: Uint8Array, length: number) => number>(
    "intptr_t getdents64(int, void *, size_t)",
  ),
  lseek: bind<(fd: number, offset: bigint, whence: number) => number>("int64_t lseek(int, int64_t, int)"),
};

/** C's string; what contains a NUL is refused, as C would take the part before it. */
function terminated(path: PathBytes, syscall: string): Uint8Array {
  if (path.includes(0)) throw new SystemError(Errno.EINVAL, syscall, shown(path));
  const text = new Uint8Array(path.length + 1);
  text.set(path);
  return text;
}

function shown(path: PathBytes): string {
  return JSON.stringify(Buffer.from(path).toString());
}

/** Opens a path relative to a folder, close-on-exec always. `mode` counts only with `OpenFlag.CREAT`. */
export function openat(folder: number, path: PathBytes, flags: number, mode = 0o600): number {
  const opened = c.openat(folder, terminated(path, "openat"), flags | OpenFlag.CLOEXEC, mode);
  return check(opened, "openat", shown(path));
}

/** What a symbolic link says; an empty path for the link that `folder` itself is (`FolderFlag.PATH`). */
export function readlinkat(folder: number, path: PathBytes): Uint8Array {
  // PATH_MAX, which no link's text exceeds.
  const target = new Uint8Array(4096);
  const length = c.readlinkat(folder, terminated(path, "readlinkat"), target, target.length);
  return target.subarray(0, check(length, "readlinkat", shown(path)));
}

/** Gives a file another name. */
export function linkat(
  oldFolder: number,
  oldPath: PathBytes,
  newFolder: number,
  newPath: PathBytes,
  flags: number,
): void {
  const linked = c.linkat(oldFolder, terminated(oldPath, "linkat"), newFolder, terminated(newPath, "linkat"), flags);
  check(linked, "linkat", `${shown(oldPath)} to ${shown(newPath)}`);
}

/** Fills `into` with entries ({@link Dirent}) from the folder's position on; returns the bytes used, 0 at the end. */
export function getdents64(fd: number, into: Uint8Array): number {
  return check(c.getdents64(fd, into, into.length), "getdents64", `fd ${fd}`);
}

/** Moves a folder's position to what an entry said is the next one's: 64 bits that mean something to the kernel alone. */
export function seek(fd: number, offset: bigint): void {
  check(c.lseek(fd, offset, 0), "lseek", `fd ${fd} to ${offset}`);
}
