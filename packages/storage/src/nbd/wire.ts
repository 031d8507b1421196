/** One connection's bytes: taken by length as they come, however they are split; sent with the stream's own backpressure. */

import { connect, type NetConnectOpts } from "node:net";
import type { Duplex } from "node:stream";
import { StorageError } from "../errors.ts";

/** How much is taken from the socket before anyone asks for it: bytes, and pieces, of which a peer can make tiny ones. */
const READ_AHEAD_BYTES = 256 << 10;
const READ_AHEAD_PIECES = 64;
/** What a socket of our own making reads at once, and how much memory for that waits to be used again. */
const ROOM_BYTES = 128 << 10;
const SPARE_ROOMS = 8;

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
  /** Bytes of the first piece that were taken. */
  #start = 0;
  #buffered = 0;
  /** Who waits for the next piece: one reader at a time. */
  #waiter: PromiseWithResolvers<void> | undefined;
  readonly #sending = new Set<(error: WireEnded) => void>();
  #ended: WireEnded | undefined;
  #corked = false;
  /** Memory of pieces goes back here when they were taken; undefined where the stream makes them. */
  readonly #rooms: Rooms | undefined;

  constructor(stream: Duplex, rooms?: Rooms) {
    this.stream = stream;
    this.#rooms = rooms;
    stream.on("data", this.#onData).on("end", this.#onEnd).on("close", this.#onClose).on("error", this.#onError);
  }

  /**
   * Connects. What comes is read into memory that is used again: the buffers that Node makes of it are half of the work of
   * those who read much.
   */
  static connect(options: NetConnectOpts): Wire {
    const rooms = new Rooms();
    let wire: Wire | undefined;
    const callback = (bytes: number, room: Uint8Array) => {
      wire!.#onData(Buffer.from(room.buffer, room.byteOffset, bytes));
      return true;
    };
    wire = new Wire(connect({ ...options, onread: { buffer: () => rooms.take(), callback } }), rooms);
    // Nothing else would ask for the end.
    wire.stream.resume();
    return wire;
  }

  /** Exactly `bytes` bytes; the reader bounds what it asks for. */
  async take(bytes: number): Promise<Buffer> {
    if (bytes > 0 && this.#buffered === 0) await this.#more();
    const there = this.takeNow(bytes);
    if (there !== undefined) return this.#rooms === undefined ? there : Buffer.from(there);
    const whole = Buffer.allocUnsafe(bytes);
    await this.fill(whole);
    return whole;
  }

  /**
   * The same without waiting, if they have come in one piece, as they mostly have: a wait costs more than the work. Good until
   * the next wait.
   */
  takeNow(bytes: number): Buffer | undefined {
    const first = this.#pieces[0];
    if (first === undefined || first.length - this.#start < bytes) return undefined;
    const taken = first.subarray(this.#start, this.#start + bytes);
    this.#advance(bytes);
    return taken;
  }

  /** Fills `target` with what comes next; nothing is held back until the rest is there. */
  async fill(target: Uint8Array): Promise<void> {
    for (let done = this.fillNow(target); done < target.length; done += this.fillNow(target, done)) {
      if (this.#buffered === 0) await this.#more();
    }
  }

  /** Fills `target` from its `done`th byte on with what has come; returns how many bytes that are. */
  fillNow(target: Uint8Array, done = 0): number {
    let filled = 0;
    while (done + filled < target.length && this.#buffered > 0) {
      const first = this.#pieces[0]!;
      const bytes = first.copy(target, done + filled, this.#start);
      this.#advance(bytes);
      filled += bytes;
    }
    return filled;
  }

  /** Takes `bytes` bytes and forgets them. */
  async skip(bytes: number): Promise<void> {
    for (let left = bytes; left > 0; ) {
      if (this.#buffered === 0) await this.#more();
      const bytes = Math.min(left, this.#pieces[0]!.length - this.#start);
      this.#advance(bytes);
      left -= bytes;
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
    this.#cork();
    const last = pieces.length - 1;
    for (let index = 0; index <= last; index++) stream.write(pieces[index], index === last ? taken : undefined);
    return promise;
  }

  /** Sends for a reader that waits on this wire, and is told there if it breaks; returns why nothing can be sent any more. */
  post(pieces: readonly Uint8Array[]): WireEnded | undefined {
    const { stream } = this;
    if (!stream.writable) return this.#ended ?? new WireEnded();
    this.#cork();
    for (const piece of pieces) stream.write(piece);
    return undefined;
  }

  /** All messages of one turn of the event loop, 32 answers for example, go to the kernel in one call. */
  #cork(): void {
    if (this.#corked) return;
    this.#corked = true;
    this.stream.cork();
    process.nextTick(this.#uncork);
  }

  readonly #uncork = (): void => {
    this.#corked = false;
    this.stream.uncork();
  };

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

  /** So many bytes of the first piece are taken. */
  #advance(bytes: number): void {
    this.#start += bytes;
    this.#buffered -= bytes;
    if (this.#start < (this.#pieces[0]?.length ?? 0)) return;
    const piece = this.#pieces.shift();
    this.#start = 0;
    if (piece !== undefined) this.#rooms?.give(piece.buffer);
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

/** Memory that a socket reads into. */
class Rooms {
  readonly #spare: ArrayBufferLike[] = [];

  take(): Uint8Array {
    return new Uint8Array(this.#spare.pop() ?? new ArrayBuffer(ROOM_BYTES));
  }

  give(room: ArrayBufferLike): void {
    if (this.#spare.length < SPARE_ROOMS) this.#spare.push(room);
  }
}
