/** One connection's bytes: taken by length as they come, however they are split; sent with the stream's own backpressure. */

import type { Duplex } from "node:stream";
import { StorageError } from "../errors.ts";

/** How much is taken from the socket before anyone asks for it: bytes, and pieces, of which a peer can make tiny ones. */
const READ_AHEAD_BYTES = 256 << 10;
const READ_AHEAD_PIECES = 64;

/** The peer has ended the connection, or it broke. */
export class WireEnded extends StorageError {
  constructor(cause?: Error) {
    super("STORAGE_IO", cause === undefined ? "the connection ended" : `the connection broke: ${cause.message}`, {
      cause,
    });
  }
}

export class Wire {
  readonly stream: Duplex;
  readonly #pieces: Buffer[] = [];
  #buffered = 0;
  /** Who waits for the next piece: one reader at a time. */
  #waiter: PromiseWithResolvers<void> | undefined;
  readonly #sending = new Set<(error: WireEnded) => void>();
  #ended: WireEnded | undefined;

  constructor(stream: Duplex) {
    this.stream = stream;
    stream.on("data", this.#onData).on("end", this.#onEnd).on("close", this.#onClose).on("error", this.#onError);
  }

  /** Exactly `bytes` bytes; the reader bounds what it asks for. */
  async take(bytes: number): Promise<Buffer> {
    if (bytes > 0 && this.#buffered === 0) await this.#more();
    // Mostly a message came in one piece.
    const first = this.#pieces[0];
    if (first !== undefined && first.length >= bytes) return this.#shift(bytes);
    const whole = Buffer.allocUnsafe(bytes);
    await this.fill(whole);
    return whole;
  }

  /** Fills `target` with what comes next; nothing is held back until the rest is there. */
  async fill(target: Uint8Array): Promise<void> {
    for (let done = 0; done < target.length; ) {
      if (this.#buffered === 0) await this.#more();
      const piece = this.#shift(target.length - done);
      target.set(piece, done);
      done += piece.length;
    }
  }

  /** Takes `bytes` bytes and forgets them. */
  async skip(bytes: number): Promise<void> {
    for (let left = bytes; left > 0; ) {
      if (this.#buffered === 0) await this.#more();
      left -= this.#shift(left).length;
    }
  }

  /** Sends the pieces one behind the other; settles when the stream has taken them. A peer that sends no more may listen. */
  send(...pieces: Uint8Array[]): Promise<void> {
    const { stream } = this;
    if (!stream.writable) return Promise.reject(this.#ended ?? new WireEnded());
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    // A stream that is destroyed forgets the write that it is at.
    this.#sending.add(reject);
    const taken = (error?: Error | null) => {
      this.#sending.delete(reject);
      if (error) reject(new WireEnded(error));
      else resolve();
    };
    stream.cork();
    for (const [index, piece] of pieces.entries()) stream.write(piece, index === pieces.length - 1 ? taken : undefined);
    stream.uncork();
    return promise;
  }

  /** Gives the stream back, to be wrapped. False when the peer has sent more than it should have by now. */
  release(): boolean {
    this.stream.pause();
    this.stream
      .off("data", this.#onData)
      .off("end", this.#onEnd)
      .off("close", this.#onClose)
      .off("error", this.#onError);
    this.#ended ??= new WireEnded();
    return this.#buffered === 0;
  }

  destroy(): void {
    this.#end(new WireEnded());
    this.stream.destroy();
  }

  async #more(): Promise<void> {
    if (this.#ended !== undefined) throw this.#ended;
    this.#waiter = Promise.withResolvers();
    if (this.stream.isPaused()) this.stream.resume();
    await this.#waiter.promise;
  }

  /** The first piece, or its first `most` bytes. */
  #shift(most: number): Buffer {
    const first = this.#pieces[0];
    if (first === undefined) return Buffer.alloc(0);
    const piece = first.subarray(0, most);
    if (piece.length === first.length) this.#pieces.shift();
    else this.#pieces[0] = first.subarray(most);
    this.#buffered -= piece.length;
    return piece;
  }

  readonly #onData = (piece: Buffer): void => {
    this.#pieces.push(piece);
    this.#buffered += piece.length;
    const waiter = this.#waiter;
    this.#waiter = undefined;
    waiter?.resolve();
    if (this.#buffered > READ_AHEAD_BYTES || this.#pieces.length > READ_AHEAD_PIECES) this.stream.pause();
  };

  readonly #onEnd = (): void => this.#end(new WireEnded());
  readonly #onClose = (): void => {
    this.#end(new WireEnded());
    for (const reject of this.#sending) reject(this.#ended!);
    this.#sending.clear();
  };
  readonly #onError = (error: Error): void => this.#end(new WireEnded(error));

  #end(error: WireEnded): void {
    this.#ended ??= error;
    const waiter = this.#waiter;
    this.#waiter = undefined;
    waiter?.reject(this.#ended);
  }
}
