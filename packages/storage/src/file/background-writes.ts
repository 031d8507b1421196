/**
 * Long writes that a thread of the kernel does, one after the other, while this one reads what comes next. Node's pool could,
 * too; but file systems let one writer in at a time, so that its threads keep a processor busy with waiting for each other, and
 * each write costs a way through the event loop.
 */

import { IoUring } from "@lodge/linux/files";
import { addressOfBuffer } from "./transfers.ts";

/** Writes under way together. */
const CAPACITY = 16;

export class BackgroundWrites implements Disposable {
  readonly #ring: IoUring;
  /** By tag: who waits for it, and what keeps the memory alive that is written. */
  readonly #waiting: ({ done: (written: number) => void; bytes: Uint8Array } | undefined)[] = [];
  readonly #free: number[] = Array.from({ length: CAPACITY }, (_, tag) => tag);
  #looking = false;

  private constructor(ring: IoUring) {
    this.#ring = ring;
  }

  /** Undefined where the kernel has no such thread for us. */
  static tryStart(): BackgroundWrites | undefined {
    const ring = IoUring.tryOpen(CAPACITY);
    return ring && new BackgroundWrites(ring);
  }

  get isFull(): boolean {
    return this.#free.length === 0;
  }

  /** Writes at an offset of a file; answers with how many bytes, or the negative `errno`. It is not full. */
  write(fd: number, bytes: Uint8Array, offset: number): Promise<number> {
    const tag = this.#free.pop()!;
    const { promise, resolve } = Promise.withResolvers<number>();
    this.#waiting[tag] = { done: resolve, bytes };
    this.#ring.write(fd, addressOfBuffer(bytes.buffer) + bytes.byteOffset, bytes.length, offset, tag);
    this.#take();
    this.#lookLater();
    return promise;
  }

  #take(): void {
    this.#ring.take((tag, result) => {
      const { done } = this.#waiting[tag]!;
      this.#waiting[tag] = undefined;
      this.#free.push(tag);
      done(result);
    });
  }

  /** When there is nothing else to do, this thread waits for the next that is done. */
  #lookLater(): void {
    if (this.#looking) return;
    this.#looking = true;
    setImmediate(() => {
      this.#looking = false;
      if (this.#ring.underWay === 0) return;
      this.#ring.wait();
      this.#take();
      if (this.#ring.underWay > 0) this.#lookLater();
    });
  }

  /** Nothing is under way any more. */
  [Symbol.dispose](): void {
    this.#ring[Symbol.dispose]();
  }
}
