/**
 * A folder of files that can be made again: put in place when they are whole, of this user alone, and only the last few that
 * were used stay. What cannot be read or written is done without.
 */

import { mkdirSync, readdirSync, readFileSync, renameSync, rmSync, statSync, utimesSync, writeFileSync } from "node:fs";
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
    const file = join(this.#folder, name);
    try {
      const content = readFileSync(file);
      const now = new Date();
      utimesSync(file, now, now);
      return content;
    } catch {
      return undefined;
    }
  }

  /** The content is what the pieces are, one behind the other. */
  keep(name: string, ...pieces: readonly Uint8Array[]): void {
    const unfinished = join(this.#folder, `${UNFINISHED}${process.pid}.${threadId}`);
    try {
      mkdirSync(this.#folder, { recursive: true, mode: 0o700 });
      this.#prune(name);
      try {
        for (const [index, piece] of pieces.entries()) {
          writeFileSync(unfinished, piece, { mode: 0o600, flag: index === 0 ? "w" : "a" });
        }
        renameSync(unfinished, join(this.#folder, name));
      } finally {
        rmSync(unfinished, { force: true });
      }
    } catch {
      // It is made again when it is needed.
    }
  }

  drop(name: string): void {
    try {
      rmSync(join(this.#folder, name), { force: true });
    } catch {
      // A folder that is not ours to change: what is in it stays what it is.
    }
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

function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === "EPERM";
  }
}
