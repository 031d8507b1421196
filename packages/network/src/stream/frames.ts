/** Frames on a stream, as QEMU's `-netdev stream` and passt have them: u32 length in the order of the network, then the frame. */

/** The longest frame that anybody sends: an IP packet of 64 KiB with Ethernet's header and a VLAN tag. */
const LONGEST = 65535 + 18;
const LENGTH = 4;

/** Takes a stream apart, cut wherever. */
export class FrameReader {
  readonly #longest: number;
  #rest: Buffer = Buffer.alloc(0);

  constructor(longest = LONGEST) {
    this.#longest = longest;
  }

  /** Bytes that are kept until a frame is whole, or is taken. */
  get keptBytes(): number {
    return this.#rest.length;
  }

  add(data: Buffer): void {
    this.#rest = this.#rest.length === 0 ? data : Buffer.concat([this.#rest, data]);
  }

  /** The next whole frame, undefined while there is none; false when what comes can be no frame. {@link take} moves on. */
  get next(): Uint8Array | undefined | false {
    if (this.#rest.length < LENGTH) return undefined;
    const length = this.#rest.readUInt32BE();
    if (length === 0 || length > this.#longest) return false;
    return this.#rest.length < LENGTH + length ? undefined : this.#rest.subarray(LENGTH, LENGTH + length);
  }

  take(): void {
    this.#rest = this.#rest.subarray(LENGTH + this.#rest.readUInt32BE());
  }

  clear(): void {
    this.#rest = Buffer.alloc(0);
  }
}

/** A frame with its length before it; a copy. */
export function framed(frame: Uint8Array): Buffer {
  const bytes = Buffer.allocUnsafe(LENGTH + frame.length);
  bytes.writeUInt32BE(frame.length);
  bytes.set(frame, LENGTH);
  return bytes;
}
