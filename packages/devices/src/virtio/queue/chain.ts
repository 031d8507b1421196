/** A buffer that the driver has made available: a chain of descriptors (virtio 1.2, 2.7.4 and 2.8.6). */

import type { GuestRam } from "../../ram.ts";

/**
 * The most descriptors in a chain, in indirect tables too. The specification has the queue's size; Linux makes longer
 * indirect tables where a device allows that many segments.
 */
export const MAX_DESCRIPTORS = 1024;

/** 2.7.5: a chain holds at most 2^32 bytes. */
const MAX_BYTES = 2 ** 32;

/**
 * Its pieces are views of guest memory, already checked to be RAM: what the driver gives to read, then what it wants
 * written. Chains are used again after they were pushed: keep none.
 */
export class Chain {
  /** What the used ring says when this is done: the head's index, or the packed ring's buffer ID. */
  id = 0;
  /** How many slots of the ring it takes. */
  slots = 0;
  readonly readable: Uint8Array[] = [];
  readonly writable: Uint8Array[] = [];
  readableBytes = 0;
  writableBytes = 0;
  /** Where the writable pieces are. */
  readonly #addresses: number[] = [];

  clear(): void {
    this.slots = 0;
    this.readable.length = 0;
    this.writable.length = 0;
    this.#addresses.length = 0;
    this.readableBytes = 0;
    this.writableBytes = 0;
  }

  get pieces(): number {
    return this.readable.length + this.writable.length;
  }

  /** Adds a descriptor's buffer; returns what is wrong with it. */
  add(ram: GuestRam, gpa: number, length: number, deviceWrites: boolean): string | undefined {
    if (this.pieces === MAX_DESCRIPTORS) return `a chain of more than ${MAX_DESCRIPTORS} descriptors`;
    const piece = ram.slice(gpa, length);
    if (piece === undefined) return `a buffer of ${length} bytes at 0x${gpa.toString(16)}, which is not RAM`;
    if (deviceWrites) {
      this.writable.push(piece);
      this.#addresses.push(gpa);
      this.writableBytes += length;
    } else {
      // 2.7.4.2: what the device writes comes last.
      if (this.writable.length > 0) return "a buffer to read behind one to write";
      this.readable.push(piece);
      this.readableBytes += length;
    }
    if (this.readableBytes + this.writableBytes > MAX_BYTES) return "a chain of more than 2^32 bytes";
    return undefined;
  }

  /** The guest physical address of a writable piece. */
  writableAddress(index: number): number {
    return this.#addresses[index]!;
  }

  /** Tells of the first `length` bytes that the device wrote. */
  markWritten(ram: GuestRam, length: number): void {
    for (let index = 0; index < this.writable.length && length > 0; index++) {
      const written = Math.min(length, this.writable[index]!.length);
      ram.written(this.#addresses[index]!, written);
      length -= written;
    }
  }

  /** Copies readable bytes from `offset` on into `target`; returns how many there were. */
  read(offset: number, target: Uint8Array): number {
    return gather(this.readable, offset, target);
  }

  /** Copies `source` to the writable bytes from `offset` on; returns how many had room. */
  write(offset: number, source: Uint8Array): number {
    return scatter(this.writable, offset, source);
  }
}

/** Copies bytes of `pieces` from `offset` on into `target`; returns how many there were. */
export function gather(pieces: readonly Uint8Array[], offset: number, target: Uint8Array): number {
  let done = 0;
  for (const piece of pieces) {
    if (offset >= piece.length) {
      offset -= piece.length;
      continue;
    }
    const length = Math.min(piece.length - offset, target.length - done);
    target.set(offset === 0 && length === piece.length ? piece : piece.subarray(offset, offset + length), done);
    done += length;
    if (done === target.length) break;
    offset = 0;
  }
  return done;
}

/** Copies `source` into `pieces` from `offset` on; returns how many bytes had room. */
export function scatter(pieces: readonly Uint8Array[], offset: number, source: Uint8Array): number {
  let done = 0;
  for (const piece of pieces) {
    if (offset >= piece.length) {
      offset -= piece.length;
      continue;
    }
    const length = Math.min(piece.length - offset, source.length - done);
    piece.set(done === 0 && length === source.length ? source : source.subarray(done, done + length), offset);
    done += length;
    if (done === source.length) break;
    offset = 0;
  }
  return done;
}

/** The pieces' bytes from `offset` on, at most `length` of them, as pieces: no copy. */
export function part(pieces: readonly Uint8Array[], offset: number, length = Number.POSITIVE_INFINITY): Uint8Array[] {
  const found: Uint8Array[] = [];
  for (const piece of pieces) {
    if (length === 0) break;
    if (offset >= piece.length) {
      offset -= piece.length;
      continue;
    }
    const taken = Math.min(piece.length - offset, length);
    found.push(taken === piece.length ? piece : piece.subarray(offset, offset + taken));
    length -= taken;
    offset = 0;
  }
  return found;
}
