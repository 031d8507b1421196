/** A request that waits for its answer, and what of the answer has come. */

import { StorageError } from "../../errors.ts";
import { cutPieces, type Pieces } from "../../file/pieces.ts";
import { NbdErrno } from "../protocol.ts";

export interface BlockStatus {
  length: number;
  flags: number;
}

/** The server broke the protocol: nothing more that it says is believed. */
export class ProtocolBreach extends StorageError {
  constructor(message: string) {
    super("STORAGE_IO", `the NBD server breaks the protocol: ${message}`);
  }
}

export class Pending {
  readonly offset: number;
  readonly length: number;
  /** What a read fills. */
  readonly pieces: Pieces;
  readonly #result = Promise.withResolvers<BlockStatus | undefined>();
  #received = 0;
  #status: BlockStatus | undefined;
  #error: StorageError | undefined;

  constructor(offset: number, length: number, pieces: Pieces) {
    this.offset = offset;
    this.length = length;
    this.pieces = pieces;
  }

  get answered(): Promise<BlockStatus | undefined> {
    return this.#result.promise;
  }

  get reads(): boolean {
    return this.pieces.length > 0;
  }

  /** The memory for `length` bytes of the disk at `offset`, which the answer is about to bring. */
  receive(offset: number, length: number): Pieces {
    const start = offset - this.offset;
    if (!this.reads || start < 0 || length < 1 || length > this.length - start) {
      throw new ProtocolBreach(`${length} bytes at ${offset} were not asked for`);
    }
    this.#received += length;
    if (this.#received > this.length) throw new ProtocolBreach("more bytes than were asked for");
    return length === this.length ? this.pieces : cutPieces(this.pieces, start, length);
  }

  describe(status: BlockStatus): void {
    if (status.length === 0) throw new ProtocolBreach("an extent of no bytes");
    this.#status ??= status;
  }

  fail(errno: number, message: string): void {
    this.#error ??= refusal(errno, message);
  }

  /** The answer is complete. */
  finish(): void {
    if (this.#error !== undefined) this.#result.reject(this.#error);
    else if (this.reads && this.#received < this.length) throw new ProtocolBreach("a read's answer is too short");
    else this.#result.resolve(this.#status);
  }

  /** There will be no answer. */
  abandon(error: Error): void {
    this.#result.reject(error);
  }
}

/** The server's refusal, with the host's name for it as the cause, so that a full disk is known as one. */
function refusal(errno: number, message: string): StorageError {
  const name = Object.entries(NbdErrno).find(([, value]) => value === errno)?.[0] ?? `error ${errno}`;
  const text = message.replace(/[^ -~]/g, "?").slice(0, 256);
  const cause = Object.assign(new Error(text === "" ? name : text), { code: name });
  return new StorageError("STORAGE_IO", text === "" ? name : `${name}: ${text}`, { cause });
}
