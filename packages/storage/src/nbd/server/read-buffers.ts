/**
 * Memory that reads go through, used again: fresh memory of this size comes from the kernel page by page and goes back, which
 * was a quarter of the processor time of sequential reads.
 */

const BUFFER_BYTES = 256 << 10;
/** Of one connection; what is read beyond that, or in larger pieces, has memory of its own. */
const MOST_KEPT = 64;

export class ReadBuffers {
  readonly #free: Buffer[] = [];

  /** Memory with anything in it. */
  take(length: number): Buffer {
    if (length > BUFFER_BYTES || length < BUFFER_BYTES >> 3) return Buffer.allocUnsafe(length);
    return (this.#free.pop() ?? Buffer.allocUnsafeSlow(BUFFER_BYTES)).subarray(0, length);
  }

  /** Nobody looks at it any more. */
  give(buffer: Buffer): void {
    const whole = buffer.buffer;
    if (whole.byteLength !== BUFFER_BYTES || this.#free.length === MOST_KEPT) return;
    this.#free.push(Buffer.from(whole));
  }
}
