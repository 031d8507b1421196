/** The files that a machine boots from, held open: at a reset they are read again, whatever became of their names. */

import { constants } from "node:fs";
import { type FileHandle, open } from "node:fs/promises";
import { VmmError } from "./errors.ts";

export class BootFile implements AsyncDisposable {
  readonly #handle: FileHandle;
  readonly #what: string;

  /** `what` is its name in a refusal. */
  static async open(path: string, what: string): Promise<BootFile> {
    const refuse = (why: string, cause?: unknown): never => {
      throw new VmmError("VMM_CONFIG", `${what} ${path}: ${why}`, { cause });
    };
    let handle: FileHandle;
    try {
      // A pipe would wait for somebody at its other end.
      handle = await open(path, constants.O_RDONLY | constants.O_NONBLOCK);
    } catch (error) {
      const { code, message } = error as NodeJS.ErrnoException;
      const why = code === "ENOENT" ? "there is no such file" : code === "EACCES" ? "it cannot be read" : message;
      return refuse(why, error);
    }
    // A device or a pipe may have no end.
    if ((await handle.stat()).isFile()) return new BootFile(handle, `${what} ${path}`);
    await handle.close();
    return refuse("it is no file");
  }

  private constructor(handle: FileHandle, what: string) {
    this.#handle = handle;
    this.#what = what;
  }

  async read(): Promise<Buffer> {
    const { size } = await this.#handle.stat();
    const content = Buffer.alloc(size);
    for (let at = 0; at < size; ) {
      const { bytesRead } = await this.#handle.read(content, at, size - at, at);
      if (bytesRead === 0) throw new VmmError("VMM_CONFIG", `${this.#what}: it became shorter while it was read`);
      at += bytesRead;
    }
    return content;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#handle.close();
  }
}
