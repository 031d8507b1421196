/** Packets that a guest sends in pieces, put together again. What overlaps is refused (RFC 5722), and so is what lacks a piece for long. */

import type { Clock } from "../clock.ts";
import { addressKey } from "../packet/address.ts";
import { Ethernet } from "../packet/ethernet.ts";
import { type IpPacket, ipHeaderLength } from "../packet/ip.ts";

/** RFC 8200, 4.5 has 60 s, RFC 1122, 3.3.2 at least that; nobody waits so long here. */
const PATIENCE_MS = 30_000;
const MOST_PACKETS = 32;
const MOST_PIECES = 64;
const MOST_BYTES = 65535;

interface Pieces {
  readonly since: number;
  readonly pieces: { from: number; data: Uint8Array }[];
  bytes: number;
  /** Known once the last piece is there. */
  length: number | undefined;
  spoilt: boolean;
}

export class Fragments {
  readonly #clock: Clock;
  readonly #packets = new Map<string, Pieces>();

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  /** Packets that lack something. */
  get size(): number {
    return this.#packets.size;
  }

  /** The whole packet, once this was the last piece that it lacked. */
  add(packet: IpPacket): IpPacket | undefined {
    const { fragment, source, destination, protocol, frame, payload, end } = packet;
    if (fragment === undefined) return packet;
    const key = `${addressKey(source)}${addressKey(destination)}${fragment.id}/${protocol}`;
    const whole = this.#find(key);
    const length = end - payload;
    const last = fragment.offset + length;
    if (whole.spoilt) return undefined;
    const fits = length > 0 && last <= MOST_BYTES && (!fragment.more || length % 8 === 0);
    const overlaps = whole.pieces.some(({ from, data }) => fragment.offset < from + data.length && from < last);
    const ends = !fragment.more ? last : undefined;
    const contradicts =
      (ends !== undefined && (whole.length ?? ends) !== ends) || last > (whole.length ?? ends ?? MOST_BYTES);
    if (!fits || overlaps || contradicts || whole.pieces.length >= MOST_PIECES) {
      whole.spoilt = true;
      whole.pieces.length = 0;
      return undefined;
    }
    whole.pieces.push({ from: fragment.offset, data: frame.slice(payload, end) });
    whole.bytes += length;
    whole.length ??= ends;
    if (whole.length !== whole.bytes) return undefined;
    this.#packets.delete(key);
    return assemble(packet, whole);
  }

  #find(key: string): Pieces {
    const now = this.#clock.now();
    // The oldest are the first.
    for (const [old, { since }] of this.#packets) {
      if (now - since < PATIENCE_MS && this.#packets.size < MOST_PACKETS) break;
      if (old === key && now - since < PATIENCE_MS) break;
      this.#packets.delete(old);
    }
    let found = this.#packets.get(key);
    if (found === undefined) {
      found = { since: now, pieces: [], bytes: 0, length: undefined, spoilt: false };
      this.#packets.set(key, found);
    }
    return found;
  }
}

function assemble(packet: IpPacket, { pieces, bytes }: Pieces): IpPacket {
  const payload = Ethernet.LENGTH + ipHeaderLength(packet.source);
  const frame = new Uint8Array(payload + bytes);
  frame.set(packet.frame.subarray(0, payload));
  for (const { from, data } of pieces) frame.set(data, payload + from);
  const [source, destination] = [packet.source.slice(), packet.destination.slice()];
  return {
    ...packet,
    source,
    destination,
    frame,
    start: Ethernet.LENGTH,
    payload,
    end: frame.length,
    fragment: undefined,
  };
}
