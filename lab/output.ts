/**
 * Output streams of the guest end with a mark, a random word chosen for the run: closing a virtio-serial port from inside
 * says nothing to a socket outside, and what is still in QEMU's queues when the machine ends is lost.
 */
export class MarkedStream {
  readonly #mark: Buffer;
  #held: Buffer = Buffer.alloc(0);
  /** What came after the mark; undefined as long as the mark was not seen. */
  #rest: Buffer | undefined;

  constructor(mark: string) {
    this.#mark = Buffer.from(mark);
  }

  get ended(): boolean {
    return this.#rest !== undefined;
  }

  get rest(): string {
    return this.#rest?.toString() ?? "";
  }

  /** Takes what arrived, returns what is certainly not part of the mark. */
  push(chunk: Buffer): Buffer {
    if (this.#rest !== undefined) {
      this.#rest = Buffer.concat([this.#rest, chunk]);
      return Buffer.alloc(0);
    }
    const data = this.#held.length > 0 ? Buffer.concat([this.#held, chunk]) : chunk;
    const at = data.indexOf(this.#mark);
    if (at >= 0) {
      this.#held = Buffer.alloc(0);
      this.#rest = data.subarray(at + this.#mark.length);
      return data.subarray(0, at);
    }
    const held = this.#beginningOfMark(data);
    this.#held = data.subarray(data.length - held);
    return data.subarray(0, data.length - held);
  }

  /** Length of the longest end of `data` with which the mark begins, so that output is not delayed without need. */
  #beginningOfMark(data: Buffer): number {
    for (let length = Math.min(this.#mark.length - 1, data.length); length > 0; length--) {
      if (data.subarray(data.length - length).equals(this.#mark.subarray(0, length))) return length;
    }
    return 0;
  }
}
