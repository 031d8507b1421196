/** An NBD server: it listens, and serves each client that comes until it goes. */

import { createServer, type Server, type Socket } from "node:net";
import { StorageError } from "../../errors.ts";
import { serverTls, type TlsCredentials } from "../tls.ts";
import { Wire } from "../wire.ts";
import type { NbdExports, Offer } from "./export.ts";
import { negotiate } from "./negotiation.ts";
import { transmit } from "./transmission.ts";

/** A client that has not finished its negotiation by then has none in mind. */
const NEGOTIATION_MS = 30_000;
/** Clients beyond `maxClients` wait for a place; of those there are never more than this. */
const MAX_WAITING = 32;

export interface NbdServerOptions {
  exports: NbdExports;
  /** Where: a Unix socket's path, or a TCP port with the address to listen at; 0 is any free one. */
  listen: { path: string } | { port: number; host?: string };
  tls?: TlsCredentials;
  /** How many are served at once. */
  maxClients?: number;
  /** A client has come, or gone; how many there are now. */
  onClients?: (count: number) => void;
  /** Why a client was cut off. */
  onRefused?: (reason: string) => void;
}

export class NbdServer implements AsyncDisposable {
  readonly #options: NbdServerOptions;
  readonly #server: Server;
  readonly #offer: Offer;
  readonly #serving = new Map<Socket, Promise<void>>();
  readonly #waiting = new Set<Socket>();

  private constructor(options: NbdServerOptions, secure: Offer["secure"]) {
    this.#options = options;
    const severalClients = options.maxClients !== 1;
    this.#offer = { exports: options.exports, severalClients, ...(secure && { secure }) };
    this.#server = createServer({ pauseOnConnect: true, noDelay: true }, (socket) => this.#arrived(socket));
  }

  /** Listens; rejects with a {@link StorageError} of code `STORAGE_OPEN` where it cannot. */
  static async start(options: NbdServerOptions): Promise<NbdServer> {
    const server = new NbdServer(options, options.tls && (await serverTls(options.tls)));
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    server.#server.once("error", reject).listen(options.listen, resolve);
    try {
      await promise;
    } catch (cause) {
      throw new StorageError("STORAGE_OPEN", `the NBD server cannot listen: ${(cause as Error).message}`, { cause });
    }
    server.#server.off("error", reject).on("error", () => {});
    return server;
  }

  /** The TCP port that it listens at; undefined for a Unix socket. */
  get port(): number | undefined {
    const address = this.#server.address();
    return typeof address === "object" ? address?.port : undefined;
  }

  /** Cuts off its clients, when what they had begun is done, and listens no more. The disks stay open. */
  async close(): Promise<void> {
    const closed = new Promise<void>((resolve) => this.#server.close(() => resolve()));
    for (const socket of [...this.#waiting, ...this.#serving.keys()]) socket.destroy();
    await Promise.all(this.#serving.values());
    await closed;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }

  #arrived(socket: Socket): void {
    socket.on("error", () => {});
    if (this.#serving.size < (this.#options.maxClients ?? Number.POSITIVE_INFINITY)) {
      this.#begin(socket);
    } else if (this.#waiting.size < MAX_WAITING) {
      this.#waiting.add(socket);
      socket.once("close", () => this.#waiting.delete(socket));
    } else socket.destroy();
  }

  #begin(socket: Socket): void {
    const served = this.#serve(socket).finally(() => {
      socket.destroy();
      this.#serving.delete(socket);
      const next = this.#waiting.values().next().value;
      if (next !== undefined && this.#server.listening) {
        this.#waiting.delete(next);
        this.#begin(next);
      } else this.#options.onClients?.(this.#serving.size);
    });
    this.#serving.set(socket, served);
    this.#options.onClients?.(this.#serving.size);
  }

  /** Serves one client; never rejects. */
  async #serve(socket: Socket): Promise<void> {
    const timer = setTimeout(() => socket.destroy(), NEGOTIATION_MS);
    try {
      const agreement = await negotiate(new Wire(socket), this.#offer);
      clearTimeout(timer);
      if (agreement === undefined) return;
      await transmit(agreement);
      agreement.wire.stream.end();
    } catch (error) {
      this.#options.onRefused?.(error instanceof Error ? error.message : String(error));
    } finally {
      clearTimeout(timer);
    }
  }
}
