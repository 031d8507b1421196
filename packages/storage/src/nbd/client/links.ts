/** The connections of one disk: where the server lets several share it and many requests wait, more than one. */

import { Can } from "../protocol.ts";
import type { NbdAddress } from "./address.ts";
import { Connection, ConnectionLost, type Request } from "./connection.ts";
import { Link, sameDisk } from "./link.ts";
import type { RemoteExport } from "./negotiation.ts";
import type { BlockStatus } from "./pending.ts";

/** When every connection has so many requests under way, one more is worth its place at the server. */
const BUSY_REQUESTS = 8;

/**
 * The first connection is made anew when it breaks ({@link Link}). The others come with the load and are dropped when they
 * break: what was under way there is sent again on the first. A flush on one covers what has ended on all, which is what
 * CAN_MULTI_CONN promises.
 */
export class Links {
  readonly #address: NbdAddress;
  readonly #first: Link;
  readonly #others: Connection[] = [];
  /** How many there may be besides the first; fewer when the server has no place for more. */
  #mostOthers: number;
  #opening: AbortController | undefined;
  #closed = false;

  private constructor(address: NbdAddress, first: Link) {
    this.#address = address;
    this.#first = first;
    const several = (first.remote.flags & Can.CAN_MULTI_CONN) !== 0;
    this.#mostOthers = several ? (address.connections ?? 1) - 1 : 0;
  }

  static async open(address: NbdAddress, reconnectMs: number): Promise<Links> {
    return new Links(address, await Link.open(address, reconnectMs));
  }

  get remote(): RemoteExport {
    return this.#first.remote;
  }

  request(request: Request): Promise<BlockStatus | undefined> {
    if (this.#mostOthers === 0) return this.#first.request(request);
    let least: Connection | undefined;
    let underWay = this.#first.underWay;
    for (const other of this.#others) {
      if (other.underWay >= underWay) continue;
      least = other;
      underWay = other.underWay;
    }
    if (underWay >= BUSY_REQUESTS && this.#others.length < this.#mostOthers) void this.#openOne();
    return least === undefined ? this.#first.request(request) : this.#onOther(least, request);
  }

  close(): void {
    this.#closed = true;
    this.#first.close();
    for (const other of this.#others) other.close();
    this.#opening?.abort();
  }

  async #onOther(other: Connection, request: Request): Promise<BlockStatus | undefined> {
    try {
      return await other.request(request);
    } catch (error) {
      if (!(error instanceof ConnectionLost)) throw error;
      const index = this.#others.indexOf(other);
      if (index >= 0) this.#others.splice(index, 1);
      return await this.#first.request(request);
    }
  }

  /** Never rejects: without it the others have to do. */
  async #openOne(): Promise<void> {
    if (this.#opening !== undefined) return;
    this.#opening = new AbortController();
    try {
      const other = await Connection.open(this.#address, this.#opening.signal);
      if (!this.#closed && sameDisk(other.remote, this.remote)) this.#others.push(other);
      else other.close();
    } catch {
      // The server's places are taken. It is not asked again, as it may let those wait that it has no place for.
      this.#mostOthers = this.#others.length;
    } finally {
      this.#opening = undefined;
    }
  }
}
