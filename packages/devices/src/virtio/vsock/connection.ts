/**
 * One stream between a port of the guest and a stream of the host, with credit (virtio 1.2, 5.10.6.3): either side says
 * how much it can hold and how much of that it has handed on; nobody sends more.
 */

import type { Duplex } from "node:stream";
import { Op, Shutdown } from "./layout.ts";

/** What the host's side holds of a connection at most. */
export const BUFFER_BYTES = 128 * 1024;

/** What a connection has to say to its guest. */
export interface ConnectionEvents {
  /** There is something to send: {@link Connection.next} or data. */
  ready(connection: Connection): void;
  /** Nothing is left of it. */
  gone(connection: Connection): void;
}

export class Connection {
  readonly guestPort: number;
  readonly hostPort: number;
  readonly #stream: Duplex;
  readonly #events: ConnectionEvents;
  /** Both sides have agreed to it. */
  established: boolean;
  /** Packets without data that wait to be sent: one of each kind at most. */
  readonly #waiting: number[] = [];
  #shutdownFlags = 0;
  /** Bytes that came from the guest, and those that the host's stream has taken. */
  #received = 0;
  #handedOn = 0;
  /** What the guest was last told of that. */
  #told = 0;
  /** Bytes that went to the guest, how many it can hold, and how many it has handed on. */
  #sent = 0;
  #peerAlloc = 0;
  #peerForwarded = 0;
  #writing = false;
  #collected: Uint8Array | undefined;
  #collectedBytes = 0;
  /** The guest sends no more. */
  #ending = false;
  #hostEnded = false;
  #gone = false;

  constructor(guestPort: number, hostPort: number, stream: Duplex, established: boolean, events: ConnectionEvents) {
    this.guestPort = guestPort;
    this.hostPort = hostPort;
    // A socket of the host that is not connected yet may still be refused: the guest then is, too.
    const connecting = established && "connecting" in stream && stream.connecting === true;
    this.established = established && !connecting;
    this.#stream = stream;
    this.#events = events;
    if (!connecting) this.#say(established ? Op.RESPONSE : Op.REQUEST);
    stream.once("connect", () => {
      this.established = true;
      this.#say(Op.RESPONSE);
    });
    stream.on("readable", () => {
      // A stream says that it has ended only to who reads it.
      if (stream.readableLength === 0) stream.read();
      this.#events.ready(this);
    });
    stream.on("end", () => {
      this.#hostEnded = true;
      this.#shutDown(Shutdown.SEND);
    });
    stream.on("error", () => this.reset());
    stream.on("close", () => {
      // Whoever closed without ending first has nothing more to receive either.
      if (this.#hostEnded) this.#shutDown(Shutdown.RECEIVE | Shutdown.SEND);
      else this.reset();
    });
  }

  /** What the guest is told of the host's side: u32 that wrap. */
  get bufAlloc(): number {
    return BUFFER_BYTES;
  }
  get fwdCnt(): number {
    return this.#handedOn >>> 0;
  }

  /** Every packet says how much the guest can hold. */
  credit(bufAlloc: number, fwdCnt: number): void {
    this.#peerAlloc = bufAlloc;
    this.#peerForwarded = fwdCnt;
    this.#events.ready(this);
  }

  /** Data from the guest, ours to keep. False: more than there was credit for. */
  receive(data: Uint8Array): boolean {
    this.#received = (this.#received + data.length) >>> 0;
    if ((this.#received - this.#handedOn) >>> 0 > BUFFER_BYTES) return false;
    if (this.#writing) this.#collect(data);
    else this.#write(data);
    return true;
  }

  /** One write at a time: however small the packets are, what waits takes no more than the credit. */
  #collect(data: Uint8Array): void {
    this.#collected ??= new Uint8Array(BUFFER_BYTES);
    this.#collected.set(data, this.#collectedBytes);
    this.#collectedBytes += data.length;
  }

  #write(data: Uint8Array): void {
    this.#writing = true;
    this.#stream.write(data, () => {
      this.#writing = false;
      this.#handedOn = (this.#handedOn + data.length) >>> 0;
      // Told when half the room is free again: a packet for each piece would be as many as there are pieces.
      if ((this.#handedOn - this.#told) >>> 0 >= BUFFER_BYTES / 2) this.#say(Op.CREDIT_UPDATE);
      if (this.#collected === undefined || this.#collectedBytes === 0) {
        this.#endIfDone();
        return;
      }
      const next = this.#collected.slice(0, this.#collectedBytes);
      this.#collectedBytes = 0;
      this.#write(next);
    });
  }

  #endIfDone(): void {
    if (this.#ending && !this.#writing && !this.#stream.writableEnded) this.#stream.end();
  }

  /** The guest asked how much room there is. */
  creditRequested(): void {
    this.#say(Op.CREDIT_UPDATE);
  }

  /** The guest accepted a connection that the host began. */
  accepted(): void {
    this.established = true;
    this.#events.ready(this);
  }

  /** The guest sends or receives no more. */
  shutDownByGuest(flags: number): void {
    if (flags & Shutdown.SEND) {
      this.#ending = true;
      this.#endIfDone();
    }
    if (flags & Shutdown.RECEIVE && flags & Shutdown.SEND) this.reset();
  }

  /** The guest is done with it, or broke its rules. */
  destroy(): void {
    if (this.#gone) return;
    this.#gone = true;
    if (this.#ending || this.#stream.destroyed) this.#stream.resume();
    else this.#stream.destroy();
    this.#events.gone(this);
  }

  /** Ends it at once; the guest is told. */
  reset(): void {
    if (this.#gone) return;
    this.#say(Op.RST);
  }

  #shutDown(flags: number): void {
    this.#shutdownFlags |= flags;
    this.#say(Op.SHUTDOWN);
  }

  #say(op: number): void {
    if (this.#gone) return;
    if (op === Op.RST) this.#waiting.length = 0;
    if (!this.#waiting.includes(op)) this.#waiting.push(op);
    this.#events.ready(this);
  }

  /** Whether there is anything to send now. */
  get isReady(): boolean {
    return this.#waiting.length > 0 || this.#sendable > 0;
  }

  get #sendable(): number {
    if (!this.established || this.#gone) return 0;
    const room = this.#peerAlloc - ((this.#sent - this.#peerForwarded) >>> 0);
    return Math.max(0, Math.min(room, this.#stream.readableLength));
  }

  /** The next packet's operation, and its data if it has any; at most `most` bytes of it. */
  next(most: number): { op: number; flags: number; data?: Uint8Array } | undefined {
    // What the host has sent goes before the news that it has ended.
    const op = this.#waiting.find((waiting) => waiting !== Op.SHUTDOWN);
    if (op !== undefined) {
      this.#waiting.splice(this.#waiting.indexOf(op), 1);
      return { op, flags: 0 };
    }
    const length = Math.min(this.#sendable, most);
    if (length > 0) {
      const data: Uint8Array | null = this.#stream.read(length);
      // Taking the last of it does not yet make a stream say that it has ended.
      if (this.#stream.readableLength === 0) this.#stream.read();
      if (data !== null) {
        this.#sent = (this.#sent + data.length) >>> 0;
        return { op: Op.RW, flags: 0, data };
      }
    }
    if (this.#waiting.length === 0 || !this.established || this.#stream.readableLength > 0) return undefined;
    this.#waiting.length = 0;
    return { op: Op.SHUTDOWN, flags: this.#shutdownFlags };
  }

  /** A packet went out, with the counts as they are now. */
  told(): void {
    this.#told = this.#handedOn;
  }
}
