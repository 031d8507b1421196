/**
 * A guest's card at a datagram socket, one frame in each datagram: QEMU's `-netdev dgram`, by UDP or between Unix sockets. Who is
 * at the other end needs not be there yet; what is sent meanwhile is lost.
 */

import { lstatSync, rmSync } from "node:fs";
import {
  AddressFamily,
  bindSocket,
  close,
  type Endpoint,
  EpollEvent,
  Errno,
  encodeEndpoint,
  encodeUnixPath,
  internetSocket,
  SocketType,
  SystemError,
  socket,
  tryReceiveFrom,
  trySendTo,
} from "@lodge/linux";
import { NetworkError } from "../errors.ts";
import { removeAbandonedSocket } from "../host/abandoned-socket.ts";
import { Poller } from "../host/poller.ts";
import { formatAddress, parseAddress, sameAddress } from "../packet/address.ts";
import { finishChecksum, type GuestSide, type Offload, type PacketPort } from "../port.ts";

/** Frames of one event, so that a flood leaves others their turn. */
const MOST_AT_ONCE = 64;

export type DatagramPlace = { readonly path: string } | Endpoint;

/** `127.0.0.1:4000`, `[::1]:4000` or `unix:PATH`. */
export function parseDatagramPlace(text: string): DatagramPlace {
  if (text.startsWith("unix:") && text.length > "unix:".length) return { path: text.slice("unix:".length) };
  const found = /^(?:\[([^\]]+)\]|([^:[\]]+)):(\d{1,5})$/.exec(text);
  const address = parseAddress(found?.[1] ?? found?.[2] ?? "");
  const port = Number(found?.[3]);
  if (address !== undefined && port >= 1 && port <= 65535) return { address, port };
  throw new NetworkError("NETWORK_CONFIG", `${text}: write an address and a port, 127.0.0.1:4000, or unix:PATH`);
}

export class DatagramPort implements PacketPort, Disposable {
  readonly takesOffloads = false;
  readonly givesOffloads = false;
  readonly #fd: number;
  readonly #poller: Poller;
  readonly #local: DatagramPlace;
  readonly #remote: DatagramPlace;
  readonly #to: Uint8Array;
  readonly #room = new Uint8Array(65536);
  #guest: GuestSide | undefined;
  #open = true;
  /** What the guest had no room for. */
  #waiting: Uint8Array | undefined;
  /** Frames that nobody was there for, or that were more than the other side took. */
  lost = 0;

  /** Sends to one place and receives at another. Throws a `NetworkError`. */
  constructor(local: DatagramPlace, remote: DatagramPlace) {
    if ("path" in local !== "path" in remote || familyOf(local) !== familyOf(remote)) {
      throw new NetworkError("NETWORK_CONFIG", `${format(local)} and ${format(remote)} are not of one kind`);
    }
    this.#local = local;
    this.#remote = remote;
    this.#to = encode(remote);
    this.#fd =
      "path" in local ? socket(AddressFamily.UNIX, SocketType.DGRAM) : internetSocket(local.address, SocketType.DGRAM);
    using undo = new DisposableStack();
    undo.defer(() => close(this.#fd));
    try {
      const address = encode(local);
      if ("path" in local) removeAbandonedSocket(local.path);
      bindSocket(this.#fd, address);
    } catch (error) {
      throw refusal(local, error);
    }
    this.#poller = undo.use(new Poller());
    this.#poller.add(this.#fd, (events) => {
      if (events & EpollEvent.IN) this.#take();
    });
    undo.move();
  }

  connect(guest: GuestSide): void {
    this.#guest = guest;
    this.#take();
  }

  transmit(frame: Uint8Array, offload?: Offload): void {
    if (!this.#open) return;
    if (offload?.checksum !== undefined) finishChecksum(frame, offload.checksum);
    const result = trySendTo(this.#fd, frame, this.#to);
    // UDP's errors are those of the datagram before.
    if (result < 0 && (result === -Errno.EAGAIN || trySendTo(this.#fd, frame, this.#to) < 0)) this.lost += 1;
  }

  #take(): void {
    if (this.#guest === undefined || this.#waiting !== undefined) return;
    for (let count = 0; ; count++) {
      if (count === MOST_AT_ONCE) return void setImmediate(() => this.#take());
      const got = tryReceiveFrom(this.#fd, this.#room);
      if (typeof got === "number") {
        if (got === -Errno.EAGAIN || got === -Errno.EBADF) return;
        continue;
      }
      if (!this.#isPeer(got.from)) continue;
      const frame = this.#room.subarray(0, got.length);
      if (this.#guest.receive(frame)) continue;
      this.#waiting = frame.slice();
      return;
    }
  }

  /** Of the internet, anybody can send to the socket; to one with a path, who may write there. */
  #isPeer(from: Endpoint | undefined): boolean {
    const remote = this.#remote;
    if ("path" in remote) return true;
    return from !== undefined && from.port === remote.port && sameAddress(from.address, remote.address);
  }

  room(): void {
    if (this.#waiting !== undefined && this.#guest?.receive(this.#waiting) === false) return;
    this.#waiting = undefined;
    this.#take();
  }

  reset(): void {
    this.#waiting = undefined;
    this.#take();
  }

  [Symbol.dispose](): void {
    if (!this.#open) return;
    this.#open = false;
    this.#guest = undefined;
    this.#poller.remove(this.#fd);
    this.#poller[Symbol.dispose]();
    close(this.#fd);
    if ("path" in this.#local) rmSync(this.#local.path, { force: true });
  }
}

function familyOf(place: DatagramPlace): number {
  return "path" in place ? 0 : place.address.length;
}

function encode(place: DatagramPlace): Uint8Array {
  try {
    return "path" in place ? encodeUnixPath(place.path) : encodeEndpoint(place);
  } catch (error) {
    throw new NetworkError("NETWORK_CONFIG", (error as Error).message, { cause: error });
  }
}

function format(place: DatagramPlace): string {
  if ("path" in place) return place.path;
  return `${formatAddress(place.address)} port ${place.port}`;
}

function refusal(local: DatagramPlace, error: unknown): NetworkError {
  const errno = error instanceof SystemError ? error.errno : 0;
  const isThere = "path" in local && lstatSync(local.path, { throwIfNoEntry: false }) !== undefined;
  const why =
    errno === Errno.EADDRINUSE
      ? isThere
        ? "it is there already; name another, or remove it if nobody has it"
        : "it is taken; name another"
      : errno === Errno.EADDRNOTAVAIL
        ? "this host does not have that address"
        : (error as Error).message;
  return new NetworkError("NETWORK_HOST", `cannot receive at ${format(local)}: ${why}`, { cause: error });
}
