/** A socket of the host's kernel as the far side of a guest's connection. */

import {
  close,
  type Endpoint,
  EpollEvent,
  Errno,
  encodeEndpoint,
  internetSocket,
  resetOnClose,
  Shutdown,
  SocketLevel,
  SocketOption,
  SocketType,
  setSocketOption,
  socketError,
  tryConnect,
  tryReceive,
  trySend,
  tryShutdown,
} from "@lodge/linux";
import type { FarEvents, FarSide } from "./far-side.ts";
import { type Poller, RDHUP } from "./poller.ts";

const { IN, OUT, ERR, HUP } = EpollEvent;

export class HostSocket implements FarSide {
  readonly #fd: number;
  readonly #poller: Poller;
  readonly #events: FarEvents;
  #connecting: boolean;
  #readable = false;
  #writable = false;
  /** The peer has said that it sends no more: a short read is not yet the last one. */
  #ending = false;
  #open = true;

  private constructor(fd: number, poller: Poller, events: FarEvents, connecting: boolean) {
    this.#fd = fd;
    this.#poller = poller;
    this.#events = events;
    this.#connecting = connecting;
    poller.add(fd, (mask) => this.#ready(mask));
  }

  /** Begins to connect. Throws a `SystemError` where there is no way at all. */
  static connect(to: Endpoint, poller: Poller, events: FarEvents): HostSocket {
    const fd = internetSocket(to.address, SocketType.STREAM);
    try {
      prepare(fd);
      const result = tryConnect(fd, encodeEndpoint(to));
      if (result < 0 && result !== -Errno.EINPROGRESS) queueMicrotask(() => events.failed(-result));
      return new HostSocket(fd, poller, events, true);
    } catch (error) {
      close(fd);
      throw error;
    }
  }

  /** Takes over a connected stream socket. */
  static accepted(fd: number, poller: Poller, events: FarEvents): HostSocket {
    prepare(fd);
    return new HostSocket(fd, poller, events, false);
  }

  receive(room: Uint8Array): number {
    if (!this.#readable) return -Errno.EAGAIN;
    const length = tryReceive(this.#fd, room);
    // A stream that gives less than there was room for is empty; what comes now is told anew (epoll(7), question 9).
    if (length === -Errno.EAGAIN || (length > 0 && length < room.length && !this.#ending)) this.#readable = false;
    return length;
  }

  send(data: Uint8Array): number {
    if (!this.#writable) return -Errno.EAGAIN;
    const length = trySend(this.#fd, data);
    if (length === -Errno.EAGAIN || (length > 0 && length < data.length)) this.#writable = false;
    return length;
  }

  end(): void {
    tryShutdown(this.#fd, Shutdown.SHUT_WR);
  }

  close(reset: boolean): void {
    if (!this.#open) return;
    this.#open = false;
    this.#poller.remove(this.#fd);
    if (reset) resetOnClose(this.#fd);
    close(this.#fd);
  }

  #ready(mask: number): void {
    if (!this.#open) return;
    if (this.#connecting) {
      if ((mask & (OUT | ERR | HUP)) === 0) return;
      const errno = socketError(this.#fd);
      // A socket whose connect was refused at once is hung up, without an error: that was told already.
      if (errno === 0 && mask & HUP) return;
      if (errno !== 0) {
        this.#events.failed(errno);
        return;
      }
      this.#connecting = false;
      this.#writable = true;
      this.#events.opened();
      if (!this.#open) return;
    }
    if (mask & ERR) {
      const errno = socketError(this.#fd);
      if (errno !== 0) {
        this.#events.failed(errno);
        return;
      }
    }
    if (mask & (RDHUP | HUP | ERR)) this.#ending = true;
    if (mask & (IN | RDHUP | HUP | ERR)) this.#readable = true;
    if (mask & (OUT | HUP | ERR)) this.#writable = true;
    this.#events.ready();
  }
}

function prepare(fd: number): void {
  try {
    setSocketOption(fd, SocketLevel.IPPROTO_TCP, SocketOption.TCP_NODELAY, 1);
    // A peer that vanished is found by the host's kernel, also while the guest is silent.
    setSocketOption(fd, SocketLevel.SOL_SOCKET, SocketOption.SO_KEEPALIVE, 1);
  } catch {
    // A Unix socket has neither.
  }
}
