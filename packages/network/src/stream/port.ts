/**
 * A guest's card at the end of a stream socket: another machine's, QEMU's `-netdev stream`, passt. The one end listens and has
 * one peer at a time; the other connects, and does so again when its peer was away. While there is none, frames are lost, as
 * on a cable that leads nowhere.
 */

import { rmSync } from "node:fs";
import { connect, createServer, type Server, type Socket } from "node:net";
import { NetworkError } from "../errors.ts";
import { removeAbandonedSocket } from "../host/abandoned-socket.ts";
import { finishChecksum, type GuestSide, type Offload, type PacketPort } from "../port.ts";
import { FrameReader, framed } from "./frames.ts";

/** Bytes that a peer leaves untaken before frames for it are lost. */
const MOST_WAITING = 1 << 20;
const AGAIN_MS = 500;

export type StreamPlace = { readonly path: string } | { readonly host: string; readonly port: number };

export class StreamPort implements PacketPort, AsyncDisposable {
  readonly takesOffloads = false;
  readonly givesOffloads = false;
  readonly #reader = new FrameReader();
  #guest: GuestSide | undefined;
  #peer: Socket | undefined;
  #server: Server | undefined;
  #again: NodeJS.Timeout | undefined;
  #closed = false;
  /** Frames that the peer was too slow for, or that nobody was there for. */
  lost = 0;

  /** Listens at a place. Throws a `NetworkError`. */
  static async listen(place: StreamPlace): Promise<StreamPort> {
    const port = new StreamPort();
    const server = createServer((socket) => {
      if (port.#peer === undefined) port.#attach(socket);
      else socket.destroy();
    });
    port.#server = server;
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    server.once("error", reject);
    if ("path" in place) removeAbandonedSocket(place.path);
    server.listen("path" in place ? { path: place.path } : { host: place.host, port: place.port }, resolve);
    try {
      await promise;
    } catch (error) {
      throw refusal("listen at", place, error as NodeJS.ErrnoException);
    }
    server.off("error", reject);
    return port;
  }

  /** Connects to who listens at a place. Throws a `NetworkError` when nobody does. */
  static async connect(place: StreamPlace): Promise<StreamPort> {
    const port = new StreamPort();
    try {
      port.#attach(await dial(place), place);
    } catch (error) {
      throw refusal("connect to", place, error as NodeJS.ErrnoException);
    }
    return port;
  }

  get isConnected(): boolean {
    return this.#peer !== undefined;
  }

  /** `place`: where to connect to again. */
  #attach(socket: Socket, place?: StreamPlace): void {
    this.#peer = socket;
    this.#reader.clear();
    socket.setNoDelay(true);
    socket.on("data", (data: Buffer) => {
      this.#reader.add(data);
      this.#deliver();
    });
    socket.on("error", () => socket.destroy());
    socket.once("end", () => socket.destroy());
    socket.once("close", () => {
      this.#peer = undefined;
      if (place !== undefined) this.#connectAgain(place);
    });
  }

  #connectAgain(place: StreamPlace): void {
    if (this.#closed) return;
    this.#again = setTimeout(() => {
      dial(place).then(
        (socket) => (this.#closed ? void socket.destroy() : this.#attach(socket, place)),
        () => this.#connectAgain(place),
      );
    }, AGAIN_MS);
  }

  #deliver(): void {
    for (let frame = this.#reader.next; frame !== undefined; frame = this.#reader.next) {
      if (frame === false) {
        this.#peer?.destroy();
        return;
      }
      if (this.#guest?.receive(frame) === false) {
        // What more comes waits in the sockets.
        this.#peer?.pause();
        return;
      }
      this.#reader.take();
    }
    this.#peer?.resume();
  }

  connect(guest: GuestSide): void {
    this.#guest = guest;
  }

  room(): void {
    this.#deliver();
  }

  transmit(frame: Uint8Array, offload?: Offload): void {
    if (this.#peer === undefined || this.#peer.writableLength > MOST_WAITING) {
      this.lost += 1;
      return;
    }
    if (offload?.checksum !== undefined) finishChecksum(frame, offload.checksum);
    this.#peer.write(framed(frame));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#closed = true;
    clearTimeout(this.#again);
    this.#peer?.destroy();
    const server = this.#server;
    if (server === undefined) return;
    const address = server.address();
    await new Promise<void>((resolve) => server.close(() => resolve()));
    if (typeof address === "string") rmSync(address, { force: true });
  }
}

function dial(place: StreamPlace): Promise<Socket> {
  const socket = "path" in place ? connect(place.path) : connect(place.port, place.host);
  return new Promise((resolve, reject) => {
    socket.once("connect", () => {
      socket.off("error", reject);
      resolve(socket);
    });
    socket.once("error", reject);
  });
}

function refusal(what: string, place: StreamPlace, error: NodeJS.ErrnoException): NetworkError {
  const where = "path" in place ? place.path : `${place.host} port ${place.port}`;
  const why =
    error.code === "EADDRINUSE"
      ? "it is taken; name another, or remove it if nobody listens there"
      : error.code === "ENOENT" || error.code === "ECONNREFUSED"
        ? "nobody listens there; start that one first"
        : error.message;
  return new NetworkError("NETWORK_HOST", `cannot ${what} ${where}: ${why}`, { cause: error });
}
