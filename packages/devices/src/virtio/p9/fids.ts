/** The files that a guest has in hand. */

import { readFileSync } from "node:fs";
import { close } from "@lodge/linux";
import { Transfers } from "@lodge/storage";
import { Errno, Refusal } from "./protocol.ts";

/** A file in the guest's hand: where it is, and once opened, the descriptor to use. */
export class Fid {
  /** Names from the share's root; what renames change, the table keeps up. */
  names: readonly string[];
  /** An O_PATH descriptor. */
  readonly pinned: number;
  #opened: number | undefined;
  #transfers: Transfers | undefined;
  flags = 0;
  #users = 0;
  #gone = false;

  constructor(names: readonly string[], pinned: number) {
    this.names = names;
    this.pinned = pinned;
  }

  get isOpen(): boolean {
    return this.#opened !== undefined;
  }

  /** The descriptor to read or write by. */
  get opened(): number {
    if (this.#opened === undefined) throw new Refusal(Errno.EBADF);
    return this.#opened;
  }

  get transfers(): Transfers {
    if (this.#transfers === undefined) throw new Refusal(Errno.EBADF);
    return this.#transfers;
  }

  setOpened(fd: number, flags: number): void {
    this.#opened = fd;
    this.#transfers = new Transfers(fd);
    this.flags = flags;
  }

  /** A transfer under way keeps the descriptors from being closed, and their numbers from being given out again. */
  async use<T>(transfer: () => Promise<T>): Promise<T> {
    this.#users += 1;
    try {
      return await transfer();
    } finally {
      this.#users -= 1;
      this.#closeIfUnused();
    }
  }

  release(): void {
    this.#gone = true;
    this.#closeIfUnused();
  }

  #closeIfUnused(): void {
    if (!this.#gone || this.#users > 0) return;
    close(this.pinned);
    if (this.#opened !== undefined) close(this.#opened);
    this.#opened = undefined;
  }
}

/** The most files in hand: half of what this process may open, as a fid takes two, and never more than 16384. */
const MOST_FIDS = Math.min(16384, Math.floor(descriptorLimit() / 4));

function descriptorLimit(): number {
  const limit = /^Max open files +(\d+)/m.exec(readFileSync("/proc/self/limits", "utf8"))?.[1];
  return limit === undefined ? 1024 : Number(limit);
}

export class FidTable {
  readonly #fids = new Map<number, Fid>();

  get(fid: number): Fid {
    const found = this.#fids.get(fid);
    if (found === undefined) throw new Refusal(Errno.EBADF);
    return found;
  }

  /** Refuses before anything is opened for a number that cannot be taken. */
  mustBeFree(fid: number): void {
    if (this.#fids.has(fid)) throw new Refusal(Errno.EINVAL);
    if (this.#fids.size >= MOST_FIDS) throw new Refusal(Errno.ENFILE);
  }

  set(number: number, fid: Fid): void {
    this.#fids.get(number)?.release();
    this.#fids.set(number, fid);
  }

  clunk(number: number): void {
    this.get(number).release();
    this.#fids.delete(number);
  }

  clear(): void {
    for (const fid of this.#fids.values()) fid.release();
    this.#fids.clear();
  }

  entries(): Iterable<[number, Fid]> {
    return this.#fids.entries();
  }

  /** A file or folder has moved, and with it what is in it. */
  moved(from: readonly string[], to: readonly string[]): void {
    for (const fid of this.#fids.values()) {
      if (from.every((name, at) => fid.names[at] === name)) fid.names = [...to, ...fid.names.slice(from.length)];
    }
  }
}
