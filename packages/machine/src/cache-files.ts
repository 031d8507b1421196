/**
 * A folder of files that can be made again: put in place when they are whole, of this user alone, and only the last few that
 * were used stay. What cannot be read or written is done without.
 */

import {
  closeSync,
  constants,
  ftruncateSync,
  futimesSync,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  writeFileSync,
} from "node:fs";
import { join } from "node:path";
import { threadId } from "node:worker_threads";

/** In front of the name of a file that is being written; behind it the process and the thread. */
const UNFINISHED = "unfinished.";

export class CacheFiles {
  readonly #folder: string;
  readonly #most: number;

  /** `most`: how many files stay. */
  constructor(folder: string, most: number) {
    this.#folder = folder;
    this.#most = most;
  }

  get(name: string): Buffer<ArrayBuffer> | undefined {
    const fd = this.open(name);
    if (fd === undefined) return undefined;
    try {
      return readFileSync(fd);
    } catch {
      return undefined;
    } finally {
      closeSync(fd);
    }
  }

  /** A descriptor to read it by, which the caller closes; what is kept under the name later is another file. */
  open(name: string): number | undefined {
    try {
      const fd = openSync(join(this.#folder, name), "r");
      const now = new Date();
      // It was used now. A file system may refuse that, and the file can be read all the same.
      attempt(() => futimesSync(fd, now, now));
      return fd;
    } catch {
      return undefined;
    }
  }

  /** The content is what the pieces are, one behind the other; a number is of so many zeros, for which the file has a hole. */
  keep(name: string, ...pieces: readonly (Uint8Array | number)[]): void {
    const unfinished = join(this.#folder, `${UNFINISHED}${process.pid}.${threadId}`);
    try {
      mkdirSync(this.#folder, { recursive: true, mode: 0o700 });
      this.#prune(name);
      try {
        writePieces(unfinished, pieces);
        renameSync(unfinished, join(this.#folder, name));
      } finally {
        rmSync(unfinished, { force: true });
      }
    } catch {
      // It is made again when it is needed.
    }
  }

  drop(name: string): void {
    // In a folder that is not ours to change it stays.
    attempt(() => rmSync(join(this.#folder, name), { force: true }));
  }

  /** Makes room for one file, and takes away what processes left that ended while they wrote. */
  #prune(name: string): void {
    const files = readdirSync(this.#folder).map((each) => {
      const path = join(this.#folder, each);
      return { each, path, used: statSync(path, { throwIfNoEntry: false })?.mtimeMs ?? 0 };
    });
    const isWhole = (each: string) => !each.startsWith(UNFINISHED);
    const others = files.filter(({ each }) => isWhole(each) && each !== name).sort((a, b) => b.used - a.used);
    const left = files.filter(
      ({ each }) => !isWhole(each) && !isAlive(Number.parseInt(each.slice(UNFINISHED.length), 10)),
    );
    for (const { path } of [...others.slice(this.#most - 1), ...left]) rmSync(path, { force: true });
  }
}

function writePieces(path: string, pieces: readonly (Uint8Array | number)[]): void {
  const fd = openSync(path, constants.O_WRONLY | constants.O_CREAT | constants.O_TRUNC | constants.O_APPEND, 0o600);
  try {
    let bytes = 0;
    for (const piece of pieces) {
      bytes += typeof piece === "number" ? piece : piece.length;
      if (typeof piece === "number") ftruncateSync(fd, bytes);
      else writeFileSync(fd, piece);
    }
  } finally {
    closeSync(fd);
  }
}

function attempt(change: () => void): void {
  try {
    change();
  } catch {
    // What cannot be changed stays what it is.
  }
}

function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === "EPERM";
  }
}
