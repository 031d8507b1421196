/**
 * What packed kernels unpack to, below ${XDG_CACHE_HOME:-~/.cache}/lodge/kernels: a file each, named by the SHA-256 of the
 * packed bytes and put in place when it is whole. The last few that were used stay. It is a cache: what cannot be read or
 * written is done without.
 */

import { createHash } from "node:crypto";
import { mkdirSync, readdirSync, readFileSync, renameSync, rmSync, statSync, utimesSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import type { UnpackedKernels } from "@lodge/machine";
import { cacheFolder } from "./store.ts";

/** A distribution's kernel unpacks to 50 to 100 MB. */
const MOST_FILES = 4;
/** In front of the name of a file that is being written, behind it the process. */
const UNFINISHED = "unfinished.";

export class KernelCache implements UnpackedKernels {
  readonly #folder: string;

  constructor(folder = join(cacheFolder(), "kernels")) {
    this.#folder = folder;
  }

  get(packed: Uint8Array): Uint8Array | undefined {
    const file = this.#file(packed);
    try {
      const unpacked = readFileSync(file);
      const now = new Date();
      utimesSync(file, now, now);
      return unpacked;
    } catch {
      return undefined;
    }
  }

  keep(packed: Uint8Array, unpacked: Uint8Array): void {
    const file = this.#file(packed);
    const unfinished = join(this.#folder, `${UNFINISHED}${process.pid}`);
    try {
      // Of this user alone: a guest's kernel comes from here.
      mkdirSync(this.#folder, { recursive: true, mode: 0o700 });
      this.#prune();
      try {
        writeFileSync(unfinished, unpacked, { mode: 0o600 });
        renameSync(unfinished, file);
      } finally {
        rmSync(unfinished, { force: true });
      }
    } catch {
      // The next machine unpacks it again.
    }
  }

  /** Makes room for one more, and takes away what processes left that ended while they wrote. */
  #prune(): void {
    const files = readdirSync(this.#folder).map((name) => {
      const path = join(this.#folder, name);
      return { name, path, used: statSync(path, { throwIfNoEntry: false })?.mtimeMs ?? 0 };
    });
    const whole = files.filter(({ name }) => !name.startsWith(UNFINISHED)).sort((one, other) => other.used - one.used);
    const left = files.filter(({ name }) => name.startsWith(UNFINISHED) && !isAlive(name.slice(UNFINISHED.length)));
    for (const { path } of [...whole.slice(MOST_FILES - 1), ...left]) rmSync(path, { force: true });
  }

  #file(packed: Uint8Array): string {
    return join(this.#folder, createHash("sha256").update(packed).digest("hex"));
  }
}

function isAlive(pid: string): boolean {
  try {
    process.kill(Number(pid), 0);
    return true;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === "EPERM";
  }
}
