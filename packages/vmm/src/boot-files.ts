/** The files that a machine boots from, held open: at a reset they are read again, whatever became of their names. */

import { closeSync, constants, fstatSync, openSync, readSync } from "node:fs";
import type { BootSource } from "@lodge/machine";
import { VmmError } from "./errors.ts";

/** Two changes within this time may leave a file the same times: file systems count in ticks, some in seconds. */
const TICK_MS = 2000;

export class BootFile implements BootSource, Disposable {
  readonly #fd: number;
  readonly #what: string;

  /** `what` is its name in a refusal. */
  static open(path: string, what: string): BootFile {
    const refuse = (why: string, cause?: unknown): never => {
      throw new VmmError("VMM_CONFIG", `${what} ${path}: ${why}`, { cause });
    };
    let fd: number;
    try {
      // A pipe would wait for somebody at its other end.
      fd = openSync(path, constants.O_RDONLY | constants.O_NONBLOCK);
    } catch (error) {
      const { code, message } = error as NodeJS.ErrnoException;
      const why = code === "ENOENT" ? "there is no such file" : code === "EACCES" ? "it cannot be read" : message;
      return refuse(why, error);
    }
    // A device or a pipe may have no end.
    if (fstatSync(fd).isFile()) return new BootFile(fd, `${what} ${path}`);
    closeSync(fd);
    return refuse("it is no file");
  }

  private constructor(fd: number, what: string) {
    this.#fd = fd;
    this.#what = what;
  }

  get sizeBytes(): number {
    return fstatSync(this.#fd).size;
  }

  /** By which file it is and when it was changed; what was changed just now may be changed again without that being seen. */
  get identity(): string | undefined {
    const { dev, ino, size, mtimeNs, ctimeNs, ctimeMs } = fstatSync(this.#fd, { bigint: true });
    if (Date.now() - Number(ctimeMs) < TICK_MS) return undefined;
    return [dev, ino, size, mtimeNs, ctimeNs].join("-");
  }

  read(target: Uint8Array, offset: number): void {
    readWhole(this.#fd, target, offset, this.#what);
  }

  [Symbol.dispose](): void {
    closeSync(this.#fd);
  }
}

/** Fills `target` with a file's bytes from `offset` on; `what` is its name in a refusal. */
export function readWhole(fd: number, target: Uint8Array, offset: number, what: string): void {
  for (let done = 0; done < target.length; ) {
    const bytes = readSync(fd, target, done, target.length - done, offset + done);
    if (bytes === 0) throw new VmmError("VMM_CONFIG", `${what}: it became shorter while it was read`);
    done += bytes;
  }
}
