/** Frames on a stream, as QEMU's `-netdev stream` and passt have them: u32 length in the order of the network, then the frame. */

/** The longest frame that anybody sends: an IP packet of 64 KiB with Ethernet's header and a VLAN tag. */
const LONGEST = 65535 + 18;
const LENGTH = 4;

/**
 * Takes a stream apart, cut wherever. What is not yet taken is kept in memory that is used again: making 64 KiB anew costs more than
 * copying them. So a frame is good until more is added.
 */
export class FrameReader {
  readonly #longest: number;
  #buffer = Buffer.alloc(0);
  #start = 0;
  #end = 0;

  constructor(longest = LONGEST) {
    this.#longest = longest;
  }

  /** Bytes that are kept until a frame is whole, or is taken. */
  get keptBytes(): number {
    return this.#end - this.#start;
  }

  add(data: Buffer): void {
    const needed = this.keptBytes + data.length;
    if (needed > this.#buffer.length) {
      const larger = Buffer.allocUnsafeSlow(Math.max(needed, 2 * this.#buffer.length));
      this.#buffer.copy(larger, 0, this.#start, this.#end);
      this.#buffer = larger;
      this.#end -= this.#start;
      this.#start = 0;
    } else if (this.#end + data.length > this.#buffer.length) {
      this.#buffer.copyWithin(0, this.#start, this.#end);
      this.#end -= this.#start;
      this.#start = 0;
    }
    data.copy(this.#buffer, this.#end);
    this.#end += data.length;
  }

  /** The next whole frame, undefined while there is none; false when what comes can be no frame. {@link take} moves on. */
  get next(): Uint8Array | undefined | false {
    if (this.keptBytes < LENGTH) return undefined;
    const length = this.#buffer.readUInt32BE(this.#start);
    if (length === 0 || length > this.#longest) return false;
    const at = this.#start + LENGTH;
    if (at + length > this.#end) return undefined;
    // No Buffer: its slice() is no copy, and everybody here takes it for one.
    return new Uint8Array(this.#buffer.buffer, this.#buffer.byteOffset + at, length);
  }

  take(): void {
    this.#start += LENGTH + this.#buffer.readUInt32BE(this.#start);
  }

  clear(): void {
    this.#start = 0;
    this.#end = 0;
  }
}

/** A frame with its length before it; a copy. */
export function framed(frame: Uint8Array): Buffer {
  const bytes = Buffer.allocUnsafe(LENGTH + frame.length);
  bytes.writeUInt32BE(frame.length);
  bytes.set(frame, LENGTH);
  return bytes;
}
