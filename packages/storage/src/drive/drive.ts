/** An image as a machine's disk uses it: with its cache mode, its limits, and a size that may change while it runs. */

import { AsyncLocalStorage } from "node:async_hooks";
import { DiskBitmaps } from "../bitmaps/disk-bitmaps.ts";
import type { Disk } from "../disk.ts";
import { StorageError } from "../errors.ts";
import { type Pieces, totalBytes } from "../file/pieces.ts";
import { Gate } from "../gate.ts";
import type { Image } from "../image.ts";
import { type OpenImageOptions, openImage } from "../open.ts";
import { type CacheMode, isDirect, writesThrough } from "./cache-mode.ts";
import { type Limits, Throttle } from "./throttle.ts";

export interface DriveOptions extends Omit<OpenImageOptions, "direct"> {
  cache?: CacheMode;
  limits?: Limits;
}

/** Who stands in the way of a drive's writes (also of zeros and discards): what a block job does for each of them. */
export interface WriteWatch {
  /** What has its hands on the drive, for messages. */
  readonly name: string;
  /** Before a write begins, which waits for it. Never rejects: a job's failure is no failure of the guest's. */
  before?(offset: number, length: number): Promise<void>;
  /** After a write has ended, well or not; its end waits for it. Never rejects. */
  after?(offset: number, length: number): Promise<void> | void;
}

/** The drives that whoever works now holds: see {@link Drive.held}. */
const holding = new AsyncLocalStorage<Set<Drive>>();

export class Drive implements Disk {
  readonly cache: CacheMode;
  /** How the images of its chain are opened. */
  readonly opening: Omit<OpenImageOptions, "format" | "readOnly">;
  readonly bitmaps = new DiskBitmaps(() => this.#image);
  readonly #throttle: Throttle;
  readonly #gate = new Gate();
  #image: Image;
  #watch: WriteWatch | undefined;

  /** Takes over the image. */
  constructor(image: Image, { cache = "writeback", limits = {}, ...opening }: DriveOptions = {}) {
    this.#image = image;
    this.cache = cache;
    const { format: _format, readOnly: _readOnly, ...others } = opening;
    this.opening = { ...others, direct: isDirect(cache) };
    this.#throttle = new Throttle(limits);
  }

  static async open(path: string, { cache = "writeback", limits = {}, ...options }: DriveOptions = {}): Promise<Drive> {
    return new Drive(await openImage(path, { ...options, direct: isDirect(cache) }), { ...options, cache, limits });
  }

  /** What it reads and writes now; a job may put another in its place. */
  get image(): Image {
    return this.#image;
  }

  get sizeBytes(): number {
    return this.image.sizeBytes;
  }

  get readOnly(): boolean {
    return this.image.readOnly;
  }

  /** Whether what was written is lasting without a flush, so that a guest is to be told of no cache. */
  get writesThrough(): boolean {
    return writesThrough(this.cache);
  }

  get limits(): Limits {
    return this.#throttle.limits;
  }

  /** Also while transfers wait for them. */
  set limits(limits: Limits) {
    this.#throttle.limits = limits;
  }

  /** Who watches its writes; nobody else can then. To be set while it is {@link drained}, so that no write is half seen. */
  get watch(): WriteWatch | undefined {
    return this.#watch;
  }

  set watch(watch: WriteWatch | undefined) {
    this.#watch = watch;
  }

  /** Works while no request is at work; those that come meanwhile wait. */
  drained<T>(work: () => Promise<T>): Promise<T> {
    return holding.getStore()?.has(this) === true ? work() : this.#gate.alone(work);
  }

  /**
   * Works at one moment of several drives: none has a request at work, and what has one {@link drained} meanwhile on
   * behalf of this work does not wait. All who hold several name them in the same order.
   */
  static held<T>(drives: readonly Drive[], work: () => Promise<T>): Promise<T> {
    const held = new Set(drives);
    const from = (index: number): Promise<T> => {
      const drive = drives[index];
      return drive === undefined ? holding.run(held, work) : drive.#gate.alone(() => from(index + 1));
    };
    // What goes on behind it (a job that was begun) holds nothing any more.
    return from(0).finally(() => held.clear());
  }

  /** Goes on with another image, of the same content. To be called while it is {@link drained}; returns the one before. */
  replaceImage(image: Image): Image {
    const before = this.#image;
    this.#image = image;
    return before;
  }

  // Where nothing has to be waited for, a transfer begins before these return: devices count on the order.

  read(offset: number, pieces: Pieces): Promise<void> {
    const turn = this.#throttle.take(totalBytes(pieces));
    const read = () => this.#pass(() => this.#image.read(offset, pieces));
    return turn === undefined ? read() : turn.then(read);
  }

  write(offset: number, pieces: Pieces): Promise<void> {
    const length = totalBytes(pieces);
    const turn = this.#throttle.take(length);
    const write = () => this.#change(offset, length, () => this.#image.write(offset, pieces));
    return turn === undefined ? write() : turn.then(write);
  }

  async flush(): Promise<void> {
    if (this.cache !== "unsafe") await this.#pass(() => this.#image.flush());
  }

  async discard(offset: number, length: number): Promise<void> {
    // What moves no data counts as an operation, as QEMU has it.
    await this.#throttle.take(0);
    await this.#change(offset, length, () => this.#image.discard(offset, length));
  }

  async writeZeroes(offset: number, length: number, mayUnmap: boolean): Promise<void> {
    await this.#throttle.take(0);
    await this.#change(offset, length, () => this.#image.writeZeroes(offset, length, mayUnmap));
  }

  async resize(sizeBytes: number): Promise<void> {
    const { watch } = this;
    if (watch === undefined) {
      return this.#pass(async () => {
        await this.#image.resize(sizeBytes);
        this.bitmaps.resize(sizeBytes);
      });
    }
    throw new StorageError("STORAGE_OPEN", `${this.image.name}: its size stays while it is in use by ${watch.name}`);
  }

  async close(): Promise<void> {
    // Nobody waits for a disk that is gone.
    this.#throttle.limits = {};
    await this.#image.close();
  }

  /** A request, which the drive counts as being at work from its beginning to its end. */
  #pass(work: () => Promise<void>): Promise<void> {
    const { closed } = this.#gate;
    if (closed !== undefined) return closed.then(() => this.#pass(work));
    const inside = this.#gate.enter();
    return this.#untilEnd(work(), inside);
  }

  async #untilEnd(work: Promise<void>, inside: 0 | 1): Promise<void> {
    try {
      await work;
    } finally {
      this.#gate.leave(inside);
    }
  }

  #change(offset: number, length: number, work: () => Promise<void>): Promise<void> {
    return this.#pass(() => {
      if (this.#watch !== undefined) return this.#watched(this.#watch, offset, length, work);
      this.bitmaps.mark(offset, length);
      return this.writesThrough ? this.#lasting(work()) : work();
    });
  }

  async #watched(watch: WriteWatch, offset: number, length: number, work: () => Promise<void>): Promise<void> {
    await watch.before?.(offset, length);
    this.bitmaps.mark(offset, length);
    try {
      await work();
      if (this.writesThrough) await this.#image.flush();
    } finally {
      await watch.after?.(offset, length);
    }
  }

  async #lasting(written: Promise<void>): Promise<void> {
    await written;
    await this.#image.flush();
  }
}
