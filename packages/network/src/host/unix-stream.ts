/**
 * Stream sockets by path that carry frames. They are made here and not by Node, which does not say how much the kernel may keep
 * of what is sent: unless told, that is three frames of 64 KiB, so that the two ends wake each other for every few of them.
 */

import { rmSync } from "node:fs";
import { Socket } from "node:net";
import {
  AddressFamily,
  bindSocket,
  close,
  encodeUnixPath,
  listen,
  SocketLevel,
  SocketOption,
  SocketType,
  SystemError,
  setSocketOption,
  socket,
  tryConnect,
  trySend,
} from "@lodge/linux";
import { acceptAt } from "./accepting.ts";
import { Poller } from "./poller.ts";

/** Sixteen frames; the host may allow less (net.core.wmem_max). */
const SEND_BUFFER = 1 << 20;
const BACKLOG = 511;

/** For what is read while there is no {@link Receiver}: as much as Node's sockets have. */
const BUFFER = 64 << 10;

/** Where bytes of a stream are received. */
export interface Receiver {
  /** Memory for the next read; asked for again after each. */
  room(): Uint8Array;
  /** So much of it has been read. */
  filled(length: number): void;
  /** What was read before. */
  add(data: Buffer): void;
}

/** A connection that is made; it has the descriptor, and closes it. */
export class UnixStream extends Socket {
  readonly #fd: number;
  readonly #reading: { receiver?: Receiver; received?: () => void };

  constructor(fd: number) {
    setSocketOption(fd, SocketLevel.SOL_SOCKET, SocketOption.SO_SNDBUF, SEND_BUFFER);
    const reading: { receiver?: Receiver; received?: () => void; room?: Uint8Array } = {};
    const first = Buffer.allocUnsafeSlow(BUFFER);
    const buffer = () => {
      const room = reading.receiver?.room();
      if (room !== undefined) reading.room = room;
      return room ?? first;
    };
    const callback = (length: number, read: Uint8Array) => {
      const { receiver, received, room } = reading;
      if (receiver === undefined) return this.push(Buffer.from(read.subarray(0, length)));
      // The first read was begun before there was a receiver.
      if (read === room) receiver.filled(length);
      else receiver.add(Buffer.from(read.subarray(0, length)));
      received!();
      return true;
    };
    super({ fd, readable: true, writable: true, onread: { buffer, callback } });
    this.#fd = fd;
    this.#reading = reading;
  }

  /**
   * Has what comes from now on received without a copy, and what is there already before it, and tells of it each time. It is
   * paused and resumed as ever.
   */
  receiveInto(receiver: Receiver, received: () => void): void {
    this.#reading.receiver = receiver;
    this.#reading.received = received;
    for (let data = this.read(); data !== null; data = this.read()) receiver.add(data);
    received();
  }

  /**
   * Sends bytes, which are the caller's again at once, past Node's queue while nothing is in it. Nothing is sent on a connection that
   * has ended.
   */
  send(bytes: Uint8Array): void {
    if (!this.writable) return;
    const sent = this.writableLength === 0 ? trySend(this.#fd, bytes) : 0;
    // An error but EAGAIN comes again, and Node then tells of it.
    if (sent < bytes.length) this.write(Buffer.from(bytes.subarray(Math.max(sent, 0))));
  }
}

/** Connects to who listens at a path; that is done at once, or refused with a `SystemError`. */
export function connectUnix(path: string): UnixStream {
  const address = encodeUnixPath(path);
  const fd = socket(AddressFamily.UNIX, SocketType.STREAM);
  const result = tryConnect(fd, address);
  if (result === 0) return new UnixStream(fd);
  close(fd);
  throw new SystemError(-result, "connect", path);
}

/** Listens at a path, where nothing is; what it leads to is removed in the end. */
export function listenUnix(path: string, accepted: (socket: UnixStream) => void): Disposable {
  const address = encodeUnixPath(path);
  using undo = new DisposableStack();
  const poller = undo.use(new Poller());
  const fd = socket(AddressFamily.UNIX, SocketType.STREAM);
  undo.use(acceptAt(fd, poller, (connection) => accepted(new UnixStream(connection))));
  bindSocket(fd, address);
  undo.defer(() => rmSync(path, { force: true }));
  listen(fd, BACKLOG);
  const resources = undo.move();
  return { [Symbol.dispose]: () => resources.dispose() };
}
