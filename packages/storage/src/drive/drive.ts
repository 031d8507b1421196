/** An image as a machine's disk uses it: with its cache mode, its limits, and a size that may change while it runs. */

import type { Disk } from "../disk.ts";
import { type Pieces, totalBytes } from "../file/pieces.ts";
import type { Image } from "../image.ts";
import { type OpenImageOptions, openImage } from "../open.ts";
import { type Limits, Throttle } from "./throttle.ts";

/**
 * - `writeback`: through the host's page cache; lasting when the guest flushes.
 * - `none`: past the page cache (O_DIRECT), with the guest's flushes.
 * - `writethrough`: through the page cache, lasting when a write ends; the guest is told of no cache.
 * - `unsafe`: flushes do nothing. A host that fails loses what the guest believes to be safe.
 */
export type CacheMode = "writeback" | "none" | "writethrough" | "unsafe";
export const CACHE_MODES: readonly CacheMode[] = ["writeback", "none", "writethrough", "unsafe"];

export interface DriveOptions extends Omit<OpenImageOptions, "direct"> {
  cache?: CacheMode;
  limits?: Limits;
}

export class Drive implements Disk {
  readonly image: Image;
  readonly cache: CacheMode;
  readonly #throttle: Throttle;

  /** Takes over the image. */
  constructor(image: Image, { cache = "writeback", limits = {} }: Pick<DriveOptions, "cache" | "limits"> = {}) {
    this.image = image;
    this.cache = cache;
    this.#throttle = new Throttle(limits);
  }

  static async open(path: string, { cache = "writeback", limits = {}, ...options }: DriveOptions = {}): Promise<Drive> {
    return new Drive(await openImage(path, { ...options, direct: cache === "none" }), { cache, limits });
  }

  get sizeBytes(): number {
    return this.image.sizeBytes;
  }

  get readOnly(): boolean {
    return this.image.readOnly;
  }

  /** Whether what was written is lasting without a flush, so that a guest is to be told of no cache. */
  get writesThrough(): boolean {
    return this.cache === "writethrough";
  }

  get limits(): Limits {
    return this.#throttle.limits;
  }

  /** Also while transfers wait for them. */
  set limits(limits: Limits) {
    this.#throttle.limits = limits;
  }

  // Where nothing has to be waited for, a transfer begins before these return: devices count on the order.

  read(offset: number, pieces: Pieces): Promise<void> {
    const turn = this.#throttle.take(totalBytes(pieces));
    const read = () => this.image.read(offset, pieces);
    return turn === undefined ? read() : turn.then(read);
  }

  write(offset: number, pieces: Pieces): Promise<void> {
    const turn = this.#throttle.take(totalBytes(pieces));
    const write = () => this.#lasting(this.image.write(offset, pieces));
    return turn === undefined ? write() : turn.then(write);
  }

  async flush(): Promise<void> {
    if (this.cache !== "unsafe") await this.image.flush();
  }

  async discard(offset: number, length: number): Promise<void> {
    // What moves no data counts as an operation, as QEMU has it.
    await this.#throttle.take(0);
    await this.#lasting(this.image.discard(offset, length));
  }

  async writeZeroes(offset: number, length: number, mayUnmap: boolean): Promise<void> {
    await this.#throttle.take(0);
    await this.#lasting(this.image.writeZeroes(offset, length, mayUnmap));
  }

  resize(sizeBytes: number): Promise<void> {
    return this.image.resize(sizeBytes);
  }

  async close(): Promise<void> {
    // Nobody waits for a disk that is gone.
    this.#throttle.limits = {};
    await this.image.close();
  }

  async #lasting(written: Promise<void>): Promise<void> {
    await written;
    if (this.writesThrough) await this.image.flush();
  }
}
