/**
 * A host folder that a guest may see, and nothing else of the host. A file is found one name at a time, each relative to
 * the folder before and without following links (openat with O_NOFOLLOW), and held by an O_PATH descriptor: what it names
 * does not change with renames. Opening goes through /proc/self/fd, which leads to exactly that file.
 */

import {
  type BigIntStats,
  chmodSync,
  chownSync,
  constants,
  fchmodSync,
  fstatSync,
  ftruncateSync,
  mkdirSync,
  openSync,
  renameSync,
  rmdirSync,
  statfsSync,
  symlinkSync,
  unlinkSync,
  utimesSync,
} from "node:fs";
import { At, close, FolderFlag, linkat, OpenFlag, open, openat, readlinkat, SystemError } from "@lodge/linux";
import { DeviceError } from "../../errors.ts";
import { Errno, Refusal } from "./refusal.ts";

const PINNED = FolderFlag.PATH | FolderFlag.NOFOLLOW;
/** What a guest may set of a mode: no set-user-ID programs appear on the host. */
const MODE_MASK = 0o1777;
/** Flags of open(2) that mean something here; the rest is dropped. Appending is the guest's: it says at which offset. */
const OPEN_MASK = constants.O_WRONLY | constants.O_RDWR | constants.O_TRUNC;

/** A name as bytes, one character each, that stays in its folder. */
function checkName(name: string): Buffer {
  if (name === "" || name === "." || name === ".." || name.includes("/") || name.includes("\0")) {
    throw new Refusal(name === ".." || name === "." ? Errno.EEXIST : Errno.EINVAL);
  }
  if (name.length > 255) throw new Refusal(Errno.ENAMETOOLONG);
  return Buffer.from(name, "latin1");
}

export type FileStat = BigIntStats;

/** Times as utimes(2) wants them; undefined leaves one as it is. */
export interface Times {
  accessedSeconds: number;
  modifiedSeconds: number;
}

export class Share {
  readonly readOnly: boolean;
  readonly #root: number;
  readonly #devices = new Map<bigint, bigint>();

  /** Opens the folder, or refuses with what the system says. */
  static open(folder: string, readOnly: boolean): Share {
    try {
      return new Share(folder, readOnly);
    } catch (cause) {
      const why = `the folder ${folder} cannot be shared: ${(cause as Error).message}`;
      throw new DeviceError("DEVICE_CONFIGURATION", why, { cause });
    }
  }

  private constructor(folder: string, readOnly: boolean) {
    this.readOnly = readOnly;
    this.#root = open(folder, FolderFlag.PATH | FolderFlag.DIRECTORY);
  }

  close(): void {
    close(this.#root);
  }

  /** A descriptor for the folder itself, the caller's to close. */
  pinRoot(): number {
    return openat(this.#root, Buffer.from("."), PINNED);
  }

  /** A descriptor for one name in a pinned folder. */
  pin(folder: number, name: string): number {
    return openat(folder, checkName(name), PINNED);
  }

  /** Another descriptor for a pinned or opened file. */
  pinAgain(fd: number): number {
    return open(magic(fd), FolderFlag.PATH);
  }

  stat(pinned: number): BigIntStats {
    return fstatSync(pinned, { bigint: true });
  }

  /** A number for a file that no other file of the share has: the inode's, and for mounts below, the device's. */
  path(device: bigint, inode: bigint): bigint {
    let number = this.#devices.get(device);
    if (number === undefined) {
      number = BigInt(this.#devices.size);
      this.#devices.set(device, number);
    }
    return BigInt.asUintN(64, inode ^ (number << 48n));
  }

  /** Opens a pinned file or folder for use. Others (pipes, devices, links) would block us or be something else. */
  open(pinned: number, flags: number): number {
    const { mode } = fstatSync(pinned);
    const kind = mode & constants.S_IFMT;
    if (kind !== constants.S_IFREG && kind !== constants.S_IFDIR) throw new Refusal(Errno.EPERM);
    const wanted = kind === constants.S_IFDIR ? constants.O_RDONLY : flags & OPEN_MASK;
    if (wanted & (constants.O_WRONLY | constants.O_RDWR | constants.O_TRUNC)) this.mayWrite();
    return openSync(magic(pinned), wanted | constants.O_NONBLOCK);
  }

  /** Makes a file in a pinned folder and opens it; an existing one is opened unless `O_EXCL` says no. */
  create(folder: number, name: string, flags: number, mode: number): number {
    this.mayWrite();
    const wanted = (flags & OPEN_MASK) | OpenFlag.CREAT | OpenFlag.EXCL | FolderFlag.NOFOLLOW;
    try {
      const fd = openat(folder, checkName(name), wanted, mode & MODE_MASK);
      // The guest's umask has been applied; ours must not be.
      fchmodSync(fd, mode & MODE_MASK);
      return fd;
    } catch (cause) {
      if (flags & OpenFlag.EXCL || !(cause instanceof SystemError) || cause.errno !== Errno.EEXIST) throw cause;
    }
    return this.#pinned(folder, name, (pinned) => this.open(pinned, flags));
  }

  makeFolder(folder: number, name: string, mode: number): void {
    this.mayWrite();
    mkdirSync(inside(folder, name), { mode: mode & MODE_MASK });
    this.#pinned(folder, name, (pinned) => chmodSync(magic(pinned), mode & MODE_MASK));
  }

  #pinned<T>(folder: number, name: string, action: (pinned: number) => T): T {
    const pinned = this.pin(folder, name);
    try {
      return action(pinned);
    } finally {
      close(pinned);
    }
  }

  makeLink(folder: number, name: string, target: string): void {
    this.mayWrite();
    symlinkSync(Buffer.from(target, "latin1"), inside(folder, name));
  }

  readLink(pinned: number): string {
    return Buffer.from(readlinkat(pinned, new Uint8Array(0))).toString("latin1");
  }

  /** Gives a pinned file another name in a pinned folder. */
  link(pinned: number, folder: number, name: string): void {
    this.mayWrite();
    linkat(At.FDCWD, Buffer.from(magic(pinned)), folder, checkName(name), At.SYMLINK_FOLLOW);
  }

  rename(oldFolder: number, oldName: string, newFolder: number, newName: string): void {
    this.mayWrite();
    renameSync(inside(oldFolder, oldName), inside(newFolder, newName));
  }

  remove(folder: number, name: string, isFolder: boolean): void {
    this.mayWrite();
    const path = inside(folder, name);
    if (isFolder) rmdirSync(path);
    else unlinkSync(path);
  }

  setMode(pinned: number, mode: number): void {
    this.mayWrite();
    chmodSync(magic(pinned), mode & MODE_MASK);
  }

  /** A process without privileges cannot give files away; then they stay its own (as QEMU's `security_model=none`). */
  setOwner(pinned: number, uid: number, gid: number): void {
    this.mayWrite();
    try {
      chownSync(magic(pinned), uid, gid);
    } catch (cause) {
      if ((cause as NodeJS.ErrnoException).code !== "EPERM") throw cause;
    }
  }

  setSize(pinned: number, sizeBytes: number): void {
    const fd = this.open(pinned, constants.O_WRONLY);
    try {
      ftruncateSync(fd, sizeBytes);
    } finally {
      close(fd);
    }
  }

  setTimes(pinned: number, times: Times): void {
    this.mayWrite();
    utimesSync(magic(pinned), times.accessedSeconds, times.modifiedSeconds);
  }

  space(pinned: number) {
    return statfsSync(magic(pinned), { bigint: true });
  }

  mayWrite(): void {
    if (this.readOnly) throw new Refusal(Errno.EROFS);
  }
}

/** Leads to exactly the file that the descriptor pins. */
function magic(pinned: number): string {
  return `/proc/self/fd/${pinned}`;
}

/** A name in a pinned folder, as a path that follows nothing on its way there. */
function inside(folder: number, name: string): Buffer {
  return Buffer.concat([Buffer.from(`${magic(folder)}/`), checkName(name)]);
}
