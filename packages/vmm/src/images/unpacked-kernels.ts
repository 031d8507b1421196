/**
 * What packed kernels unpack to, below ${XDG_CACHE_HOME:-~/.cache}/lodge/kernels: a file each, named by the SHA-256 of the
 * packed bytes. A guest's kernel comes from here, so that the files are this user's alone.
 */

import { createHash } from "node:crypto";
import { join } from "node:path";
import { CacheFiles, type UnpackedKernels } from "@lodge/machine";
import { cacheFolder } from "./store.ts";

/** A distribution's kernel unpacks to 50 to 100 MB. */
const MOST_FILES = 4;

export class KernelCache implements UnpackedKernels {
  readonly #files: CacheFiles;

  constructor(folder = join(cacheFolder(), "kernels")) {
    this.#files = new CacheFiles(folder, MOST_FILES);
  }

  get(packed: Uint8Array): Uint8Array | undefined {
    return this.#files.get(nameOf(packed));
  }

  keep(packed: Uint8Array, unpacked: Uint8Array): void {
    this.#files.keep(nameOf(packed), unpacked);
  }
}

const nameOf = (packed: Uint8Array): string => createHash("sha256").update(packed).digest("hex");
