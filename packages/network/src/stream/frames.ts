/** Frames on a stream, as QEMU's `-netdev stream` and passt have them: u32 length in the order of the network, then the frame. */

/** The longest frame that anybody sends: an IP packet of 64 KiB with Ethernet's header and a VLAN tag. */
const LONGEST = 65535 + 18;
const LENGTH = 4;
/** What is read at once: some of the longest frames, of which one at most is moved for being in parts. */
const READ = 256 << 10;

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
    this.#makeRoom(data.length);
    data.copy(this.#buffer, this.#end);
    this.#end += data.length;
  }

  /** Memory to receive what comes next into; {@link filled} says how much of it came. */
  room(): Uint8Array {
    this.#makeRoom(READ);
    return this.#buffer.subarray(this.#end, this.#end + READ);
  }

  filled(length: number): void {
    this.#end += length;
  }

  /** Moves what is kept where there is room for `length` bytes behind it. */
  #makeRoom(length: number): void {
    if (this.#start === this.#end) this.clear();
    if (this.#end + length <= this.#buffer.length) return;
    const needed = this.keptBytes + length;
    const larger =
      needed > this.#buffer.length ? Buffer.allocUnsafeSlow(Math.max(needed, 2 * this.#buffer.length)) : this.#buffer;
    this.#buffer.copy(larger, 0, this.#start, this.#end);
    this.#buffer = larger;
    this.#end -= this.#start;
    this.#start = 0;
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
