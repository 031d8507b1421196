/** A file of a shared folder in a guest's hand. */

import { readFileSync } from "node:fs";
import { close } from "@lodge/linux";
import { Transfers } from "@lodge/storage/transfers";
import { Errno, Refusal } from "./refusal.ts";

export class HeldFile {
  /** An O_PATH descriptor; or for a file that is held for its use alone, the one that it is opened by. */
  readonly pinned: number;
  /** As it was opened. */
  flags = 0;
  #opened: number | undefined;
  #transfers: Transfers | undefined;
  #users = 0;
  #gone = false;

  constructor(pinned: number) {
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
  async use<T>(transfer: () => T | Promise<T>): Promise<T> {
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
    if (this.#opened !== undefined && this.#opened !== this.pinned) close(this.#opened);
    this.#opened = undefined;
  }
}

/** How many files this process may have open. */
export function descriptorLimit(): number {
  const limit = /^Max open files +(\d+)/m.exec(readFileSync("/proc/self/limits", "utf8"))?.[1];
  return limit === undefined ? 1024 : Number(limit);
}
