/** A connection that is made anew when it breaks, within bounds. */

import { setTimeout as delay } from "node:timers/promises";
import { StorageError } from "../../errors.ts";
import { Can } from "../protocol.ts";
import type { NbdAddress } from "./address.ts";
import { Connection, ConnectionLost, type Request } from "./connection.ts";
import type { RemoteExport } from "./negotiation.ts";
import type { BlockStatus } from "./pending.ts";

/** A request that has been sent this often, each time to a connection that then broke, is what breaks them. */
const MAX_SENDINGS = 5;
const FIRST_PAUSE_MS = 50;
const LONGEST_PAUSE_MS = 2000;

/**
 * Requests under way when the connection breaks are sent again on the next one; all of NBD's may be repeated. What the
 * server had acknowledged and not yet flushed is the server's care: one that lost power has lost it, as a disk would have.
 */
export class Link {
  readonly #address: NbdAddress;
  readonly #reconnectMs: number;
  readonly #first: RemoteExport;
  #connection: Connection;
  #reconnecting: Promise<Connection> | undefined;
  /** The last attempt took all of its time: until it succeeds again, one try has to do. */
  #gaveUp = false;
  readonly #closed = new AbortController();

  private constructor(address: NbdAddress, reconnectMs: number, connection: Connection) {
    this.#address = address;
    this.#reconnectMs = reconnectMs;
    this.#connection = connection;
    this.#first = connection.remote;
  }

  static async open(address: NbdAddress, reconnectMs: number): Promise<Link> {
    return new Link(address, reconnectMs, await Connection.open(address));
  }

  /** What the server offered at first, and on every connection since. */
  get remote(): RemoteExport {
    return this.#connection.remote;
  }

  /** Requests that have been sent and not answered. */
  get underWay(): number {
    return this.#connection.underWay;
  }

  async request(request: Request): Promise<BlockStatus | undefined> {
    for (let sendings = 1; ; sendings++) {
      // No wait where there is nothing to wait for.
      const connection = this.#usable() ?? (await this.#connected());
      try {
        return await connection.request(request);
      } catch (error) {
        if (!(error instanceof ConnectionLost) || sendings === MAX_SENDINGS) throw error;
      }
    }
  }

  close(): void {
    this.#closed.abort();
    this.#connection.close();
  }

  #usable(): Connection | undefined {
    if (this.#closed.signal.aborted) throw new StorageError("STORAGE_IO", "the disk is closed");
    return this.#connection.lost ? undefined : this.#connection;
  }

  async #connected(): Promise<Connection> {
    this.#reconnecting ??= this.#reconnect().finally(() => {
      this.#reconnecting = undefined;
    });
    return await this.#reconnecting;
  }

  async #reconnect(): Promise<Connection> {
    const end = performance.now() + (this.#gaveUp ? 0 : this.#reconnectMs);
    for (let pause = FIRST_PAUSE_MS; ; pause = Math.min(2 * pause, LONGEST_PAUSE_MS)) {
      try {
        const connection = await Connection.open(this.#address);
        this.#use(connection);
        return connection;
      } catch (error) {
        if (this.#closed.signal.aborted || error instanceof OtherExport) throw error;
        if (performance.now() + pause > end) {
          this.#gaveUp = true;
          throw new StorageError("STORAGE_IO", `the server is gone: ${(error as Error).message}`, { cause: error });
        }
      }
      await delay(pause, undefined, { signal: this.#closed.signal }).catch(() => {});
    }
  }

  #use(connection: Connection): void {
    if (this.#closed.signal.aborted || !sameDisk(connection.remote, this.#first)) {
      connection.close();
      throw new OtherExport();
    }
    this.#connection = connection;
    this.#gaveUp = false;
  }
}

/** Whether two connections can be to the same disk, under the same conditions. */
export function sameDisk(one: RemoteExport, other: RemoteExport): boolean {
  return (
    one.sizeBytes === other.sizeBytes &&
    one.minimumBytes === other.minimumBytes &&
    (one.flags & Can.READ_ONLY) === (other.flags & Can.READ_ONLY)
  );
}

class OtherExport extends StorageError {
  constructor() {
    super("STORAGE_IO", "the server came back with another disk in the place of this one");
  }
}
