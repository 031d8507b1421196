/** The files that a guest has in hand. */

import { descriptorLimit, HeldFile } from "../shared-folder/held-file.ts";
import { Errno, Refusal } from "../shared-folder/refusal.ts";

export class Fid extends HeldFile {
  /** Names from the share's root; what renames change, the table keeps up. */
  names: readonly string[];

  constructor(names: readonly string[], pinned: number) {
    super(pinned);
    this.names = names;
  }
}

/** The most files in hand: half of what this process may open, as a fid takes two, and never more than 16384. */
const MOST_FIDS = Math.min(16384, Math.floor(descriptorLimit() / 4));

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
