/** A datagram socket of the host's that takes and gives to anybody, and hears what the network says of what it sent. */

import {
  bindSocket,
  close,
  type DatagramError,
  type Endpoint,
  EpollEvent,
  Errno,
  encodeEndpoint,
  internetSocket,
  localEndpoint,
  SocketLevel,
  SocketOption,
  SocketType,
  setSocketOption,
  takeDatagramError,
  tryReceiveFrom,
  trySendTo,
} from "@lodge/linux";
import type { Poller } from "./poller.ts";

export interface DatagramEvents {
  /** A datagram; its bytes are good until this returns. */
  received(data: Uint8Array, from: Endpoint): void;
  failed?(error: DatagramError, datagram: Uint8Array): void;
}

/** Of one event, so that one socket does not keep all others waiting; the rest is taken in the next turn. */
const MOST_AT_ONCE = 64;
const room = new Uint8Array(65536);
const errorRoom = new Uint8Array(576);

export class DatagramSocket implements Disposable {
  readonly #fd: number;
  readonly #poller: Poller;
  readonly #events: DatagramEvents;
  #open = true;

  /** Of the family of `local`, and bound to it. Throws a `SystemError`. */
  constructor(local: Endpoint, poller: Poller, events: DatagramEvents, protocol = 0) {
    const fd = internetSocket(local.address, SocketType.DGRAM, protocol);
    try {
      if (local.address.length === 4) setSocketOption(fd, SocketLevel.IPPROTO_IP, SocketOption.IP_RECVERR, 1);
      else {
        setSocketOption(fd, SocketLevel.IPPROTO_IPV6, SocketOption.IPV6_V6ONLY, 1);
        setSocketOption(fd, SocketLevel.IPPROTO_IPV6, SocketOption.IPV6_RECVERR, 1);
      }
      bindSocket(fd, encodeEndpoint(local));
      this.#fd = fd;
      this.#poller = poller;
      this.#events = events;
      poller.add(fd, (mask) => this.#ready(mask));
    } catch (error) {
      close(fd);
      throw error;
    }
  }

  get port(): number {
    return localEndpoint(this.#fd)!.port;
  }

  /** 0, or a negative `errno`: datagrams that there is no room for are lost, as anywhere. */
  send(data: Uint8Array, to: Endpoint): number {
    if (!this.#open) return -Errno.EBADF;
    const address = encodeEndpoint(to);
    const result = trySendTo(this.#fd, data, address);
    // An error that waits is told instead of this being sent; it is told in its own way, too.
    const again = result < 0 && result !== -Errno.EAGAIN ? trySendTo(this.#fd, data, address) : result;
    return Math.min(again, 0);
  }

  #ready(mask: number): void {
    if (mask & EpollEvent.ERR) this.#takeErrors();
    if (!(mask & (EpollEvent.IN | EpollEvent.ERR))) return;
    for (let count = 0; this.#open; count++) {
      if (count === MOST_AT_ONCE) {
        setImmediate(() => this.#ready(EpollEvent.IN));
        return;
      }
      const got = tryReceiveFrom(this.#fd, room);
      if (got === -Errno.EAGAIN) return;
      // An error of what was sent, which stands in the queue of errors, too.
      if (typeof got === "number") continue;
      if (got.from !== undefined) this.#events.received(room.subarray(0, got.length), got.from);
    }
  }

  #takeErrors(): void {
    while (this.#open) {
      const error = takeDatagramError(this.#fd, errorRoom);
      if (error === undefined) return;
      this.#events.failed?.(error, errorRoom.subarray(0, error.length));
    }
  }

  [Symbol.dispose](): void {
    if (!this.#open) return;
    this.#open = false;
    this.#poller.remove(this.#fd);
    close(this.#fd);
  }
}
