/**
 * The host's side of a vsock as Unix sockets: what the guest connects to as port N is the socket `PATH_N`, and whoever
 * connects to `PATH` itself and sends the line `CONNECT N` gets the guest's port N, or the end of the connection when nobody is there.
 */

import { createConnection, createServer, type Server, type Socket } from "node:net";
import type { Duplex } from "node:stream";
import type { VsockDevice } from "./vsock.ts";

/** `CONNECT 4294967295\n` is the longest first line. */
const LONGEST_LINE = 19;

export class UnixSockets implements AsyncDisposable {
  readonly path: string;
  readonly #server: Server;
  readonly #streams = new Set<Socket>();
  #device: VsockDevice | undefined;

  private constructor(path: string) {
    this.path = path;
    this.#server = createServer({ allowHalfOpen: true }, (socket) => this.#greet(this.#keep(socket)));
  }

  /** Listens on `path`. */
  static async listen(path: string): Promise<UnixSockets> {
    const sockets = new UnixSockets(path);
    await new Promise<void>((resolve, reject) => {
      sockets.#server.once("error", reject);
      sockets.#server.listen(path, resolve);
    });
    return sockets;
  }

  /** The device whose guest is to be reached. */
  serve(device: VsockDevice): void {
    this.#device = device;
  }

  /** For {@link VsockOptions.connect}. */
  connect = (port: number): Duplex =>
    this.#keep(createConnection({ path: `${this.path}_${port}`, allowHalfOpen: true }));

  #keep(socket: Socket): Socket {
    this.#streams.add(socket);
    socket.once("close", () => this.#streams.delete(socket));
    // Until the device has it, nobody else would hear of an error.
    socket.on("error", () => {});
    return socket;
  }

  #greet(socket: Socket): void {
    let line = Buffer.alloc(0);
    const take = () => {
      for (let byte: Buffer | null = socket.read(1); byte !== null; byte = socket.read(1)) {
        line = Buffer.concat([line, byte]);
        if (byte[0] !== 0x0a && line.length < LONGEST_LINE) continue;
        socket.off("readable", take);
        const port = /^CONNECT (\d{1,10})\n$/.exec(line.toString("latin1"))?.[1];
        if (port === undefined || Number(port) > 0xfffffffe || this.#device === undefined) socket.destroy();
        else this.#device.dial(Number(port), socket);
        return;
      }
    };
    socket.on("readable", take);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const socket of this.#streams) socket.destroy();
    await new Promise((resolve) => this.#server.close(resolve));
  }
}
