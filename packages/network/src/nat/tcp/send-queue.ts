/**
 * What was sent to the guest and is not acknowledged. What came in large pieces stays in the frames it was sent in; small
 * pieces are put together, so that what is kept is about as large as what it holds.
 */

import { distance, isBefore, plus } from "./sequence.ts";

const BLOCK = 16 << 10;
const FIRST_BLOCK = 1 << 10;

interface Piece {
  /** Where `bytes` begins. */
  readonly from: number;
  readonly bytes: Uint8Array;
  length: number;
  /** Called when it is not needed any more. */
  readonly release: (() => void) | undefined;
}

export class SendQueue {
  #pieces: Piece[] = [];
  #end: number;

  constructor(first: number) {
    this.#end = first;
  }

  /** Memory that is held, in bytes. */
  get heldBytes(): number {
    return this.#pieces.reduce((sum, { bytes }) => sum + bytes.buffer.byteLength, 0);
  }

  /** Adds a copy. */
  append(data: Uint8Array): void {
    let rest = data;
    while (rest.length > 0) {
      const last = this.#pieces.at(-1);
      let block = last;
      if (block === undefined || block.release !== undefined || block.length === block.bytes.length) {
        const size = Math.min(Math.max(rest.length, (last?.bytes.length ?? FIRST_BLOCK / 2) * 2), BLOCK);
        block = { from: this.#end, bytes: new Uint8Array(size), length: 0, release: undefined };
        this.#pieces.push(block);
      }
      const taken = rest.subarray(0, block.bytes.length - block.length);
      block.bytes.set(taken, block.length);
      block.length += taken.length;
      this.#end = plus(this.#end, taken.length);
      rest = rest.subarray(taken.length);
    }
  }

  /** Adds bytes that nobody changes until `release` is called. */
  adopt(bytes: Uint8Array, release: () => void): void {
    this.#pieces.push({ from: this.#end, bytes, length: bytes.length, release });
    this.#end = plus(this.#end, bytes.length);
  }

  /** Copies bytes from a sequence number on; returns how many there were. */
  copy(from: number, target: Uint8Array): number {
    let done = 0;
    for (const piece of this.#pieces) {
      const skip = distance(piece.from, plus(from, done));
      if (skip >= piece.length) continue;
      if (skip < 0 || done === target.length) break;
      const part = piece.bytes.subarray(skip, Math.min(piece.length, skip + target.length - done));
      target.set(part, done);
      done += part.length;
    }
    return done;
  }

  /** All before this is acknowledged. */
  release(before: number): void {
    let gone = 0;
    for (const piece of this.#pieces) {
      if (isBefore(before, plus(piece.from, piece.length))) break;
      piece.release?.();
      gone += 1;
    }
    if (gone > 0) this.#pieces.splice(0, gone);
  }

  clear(): void {
    for (const { release } of this.#pieces.splice(0)) release?.();
  }
}
