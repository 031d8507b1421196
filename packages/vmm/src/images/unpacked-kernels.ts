/**
 * What packed kernels unpack to, below ${XDG_CACHE_HOME:-~/.cache}/lodge/kernels: a file each, named by the identity of the
 * packed one. A guest's kernel comes from here, so that the files are this user's alone. Nobody changes them once they are
 * whole, so that machines map them: what their guests do not change they have together. Two fifths of a kernel are zeros, which are
 * holes in its file, and not read.
 */

import { closeSync, fstatSync } from "node:fs";
import { join } from "node:path";
import { addressOf, MapFlag, mmap, Protection, Seek, seekExtent } from "@lodge/linux";
import { type BootSource, CacheFiles, type UnpackedKernels } from "@lodge/machine";
import { readWhole } from "../boot-files.ts";
import { cacheFolder } from "./store.ts";

/** A distribution's kernel unpacks to 50 to 100 MB. */
const MOST_FILES = 4;

export class KernelCache implements UnpackedKernels {
  readonly #files: CacheFiles;

  constructor(folder = join(cacheFolder(), "kernels")) {
    this.#files = new CacheFiles(folder, MOST_FILES);
  }

  get(identity: string): (BootSource & Disposable) | undefined {
    const fd = this.#files.open(identity);
    return fd === undefined ? undefined : new KeptKernel(fd);
  }

  keep(identity: string, unpacked: Uint8Array): void {
    this.#files.keep(identity, ...withHoles(unpacked));
  }
}

/** A hole is at least as long: shorter ones save less than finding them costs. */
const HOLE_BYTES = 2 ** 16;
const ZEROS = new Uint8Array(HOLE_BYTES);

/** What a file has of the bytes: pieces of them, and how long the zeros between those are. */
function withHoles(bytes: Uint8Array): (Uint8Array | number)[] {
  const pieces: (Uint8Array | number)[] = [];
  let start = 0;
  for (let at = 0; at < bytes.length; ) {
    const end = Math.min(at + HOLE_BYTES, bytes.length);
    const isHole = Buffer.compare(bytes.subarray(at, end), ZEROS.subarray(0, end - at)) === 0;
    if (isHole) {
      if (at > start) pieces.push(bytes.subarray(start, at));
      pieces.push(end - at);
      start = end;
    }
    at = end;
  }
  return [...pieces, bytes.subarray(start)];
}

class KeptKernel implements BootSource, Disposable {
  readonly sizeBytes: number;
  readonly #fd: number;

  constructor(fd: number) {
    this.#fd = fd;
    this.sizeBytes = fstatSync(fd).size;
  }

  read(target: Uint8Array, offset: number): void {
    readWhole(this.#fd, target, offset, "the unpacked kernel");
  }

  readOverZeros(target: Uint8Array, offset: number): void {
    const end = offset + target.length;
    for (let at = offset; at < end; ) {
      const data = Math.min(seekExtent(this.#fd, at, Seek.DATA) ?? end, end);
      at = data === end ? end : Math.min(seekExtent(this.#fd, data, Seek.HOLE)!, end);
      this.read(target.subarray(data - offset, at - offset), data);
    }
  }

  map(target: Uint8Array, offset: number): void {
    const protection = Protection.READ | Protection.WRITE;
    const flags = MapFlag.PRIVATE | MapFlag.FIXED;
    const address = addressOf(target.buffer) + target.byteOffset;
    mmap({ address, length: target.length, protection, flags, fd: this.#fd, offset });
  }

  /** What is mapped stays. */
  [Symbol.dispose](): void {
    closeSync(this.#fd);
  }
}
