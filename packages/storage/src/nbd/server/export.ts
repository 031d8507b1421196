/** What a server offers: a disk by a name, and what it can tell of the disk's content. */

import type { Duplex } from "node:stream";
import type { Store } from "../../image.ts";
import { Can, MAX_PAYLOAD_BYTES } from "../protocol.ts";

/** A stretch of a disk with the flags of one metadata context. */
export interface StatusExtent {
  length: number;
  flags: number;
}

/** Something that is known of each byte of a disk, such as whether it is allocated. */
export interface MetaContext {
  /** NAMESPACE:LEAF. */
  readonly name: string;
  /** The extents from `offset` on: at least one, `most` at most; they may end before `offset + length`. */
  extents(offset: number, length: number, most: number): Promise<StatusExtent[]>;
}

export interface NbdExport {
  readonly disk: Store;
  readonly readOnly: boolean;
  readonly description?: string;
  readonly contexts: readonly MetaContext[];
  /** Requests are of multiples of this: a power of two, one byte unless the disk has a reason. */
  readonly minimumBytes?: number;
}

/** By name; the empty name is the default export. */
export type NbdExports = ReadonlyMap<string, NbdExport>;

/** What a server offers, and on which terms. */
export interface Offer {
  exports: NbdExports;
  /** Wraps a connection's stream into TLS, without which then nothing is told. */
  secure?: (stream: Duplex) => Promise<Duplex>;
  /** More than one client is served at once: where not, a client's second connection would wait for its first. */
  severalClients: boolean;
}

export function transmissionFlags({ readOnly }: NbdExport, severalClients: boolean): number {
  const writing = Can.SEND_FLUSH | Can.SEND_FUA | Can.SEND_TRIM | Can.SEND_WRITE_ZEROES | Can.SEND_FAST_ZERO;
  const always = Can.HAS_FLAGS | Can.SEND_DF | Can.SEND_CACHE;
  // Connections share one disk, so a flush on one covers what the others were told is written.
  return always | (readOnly ? Can.READ_ONLY : writing) | (severalClients ? Can.CAN_MULTI_CONN : 0);
}

/** Best in pages; at most what every client takes. */
export function blockSizes({ minimumBytes = 1 }: NbdExport) {
  return { minimum: minimumBytes, preferred: Math.max(minimumBytes, 4096), maximum: MAX_PAYLOAD_BYTES };
}
