/** Packets of IPv4 (RFC 791) and IPv6 (RFC 8200) in frames of Ethernet. */

import type { Offload } from "../port.ts";
import { addWords, checksumOf, fold } from "./checksum.ts";
import { Ethernet, EtherType, putU16, u16, u32 } from "./ethernet.ts";

export const IpProtocol = {
  HOP_BY_HOP: 0,
  ICMP: 1,
  TCP: 6,
  UDP: 17,
  ROUTING: 43,
  FRAGMENT: 44,
  ICMPV6: 58,
  DESTINATION: 60,
} as const;

/** Byte offsets in the header. */
export const Ipv4 = {
  VERSION: 0,
  LENGTH: 2,
  ID: 4,
  FRAGMENT: 6,
  TTL: 8,
  PROTOCOL: 9,
  CHECKSUM: 10,
  SOURCE: 12,
  DESTINATION: 16,
  HEADER: 20,
} as const;
export const Ipv6 = { LENGTH: 4, NEXT: 6, HOPS: 7, SOURCE: 8, DESTINATION: 24, HEADER: 40 } as const;
/** The fragment header of IPv6, and IPv4's flags. */
export const FRAGMENT_HEADER = 8;
const MORE_FRAGMENTS = 0x2000;

/** IPv6's headers between the first and the payload are skipped up to so many. */
const MOST_EXTENSIONS = 8;

export interface Fragment {
  readonly id: number;
  /** Where it belongs, in bytes. */
  readonly offset: number;
  readonly more: boolean;
}

export interface IpPacket {
  readonly version: 4 | 6;
  /** Views of the frame. */
  readonly source: Uint8Array;
  readonly destination: Uint8Array;
  readonly protocol: number;
  readonly hops: number;
  /** The frame, with the packet's beginning, its payload's, and the end of both. */
  readonly frame: Uint8Array;
  readonly start: number;
  readonly payload: number;
  readonly end: number;
  /** Undefined for a whole packet. */
  readonly fragment: Fragment | undefined;
  /** The checksum of its payload that has yet to be made. */
  readonly pending?: Offload["checksum"];
}

/** The packet in a frame; undefined for what is none, not whole, or damaged. Ethernet's padding behind it is left out. */
export function parseIp(frame: Uint8Array): IpPacket | undefined {
  if (frame.length < Ethernet.LENGTH) return undefined;
  const type = u16(frame, Ethernet.TYPE);
  if (type === EtherType.IPV4) return parseIpv4(frame, Ethernet.LENGTH);
  return type === EtherType.IPV6 ? parseIpv6(frame, Ethernet.LENGTH) : undefined;
}

function parseIpv4(frame: Uint8Array, start: number): IpPacket | undefined {
  if (frame.length < start + Ipv4.HEADER) return undefined;
  const header = (frame[start]! & 0xf) * 4;
  const length = u16(frame, start + Ipv4.LENGTH);
  if (frame[start]! >> 4 !== 4 || header < Ipv4.HEADER || length < header || start + length > frame.length)
    return undefined;
  if (fold(addWords(frame, start, start + header)) !== 0xffff) return undefined;
  const flags = u16(frame, start + Ipv4.FRAGMENT);
  const offset = (flags & 0x1fff) * 8;
  const more = (flags & MORE_FRAGMENTS) !== 0;
  return {
    version: 4,
    source: frame.subarray(start + Ipv4.SOURCE, start + Ipv4.SOURCE + 4),
    destination: frame.subarray(start + Ipv4.DESTINATION, start + Ipv4.DESTINATION + 4),
    protocol: frame[start + Ipv4.PROTOCOL]!,
    hops: frame[start + Ipv4.TTL]!,
    frame,
    start,
    payload: start + header,
    end: start + length,
    fragment: offset > 0 || more ? { id: u16(frame, start + Ipv4.ID), offset, more } : undefined,
  };
}

function parseIpv6(frame: Uint8Array, start: number): IpPacket | undefined {
  if (frame.length < start + Ipv6.HEADER || frame[start]! >> 4 !== 6) return undefined;
  const end = start + Ipv6.HEADER + u16(frame, start + Ipv6.LENGTH);
  if (end > frame.length) return undefined;
  let protocol = frame[start + Ipv6.NEXT]!;
  let payload = start + Ipv6.HEADER;
  let fragment: Fragment | undefined;
  for (let headers = 0; isExtension(protocol); headers++) {
    if (headers === MOST_EXTENSIONS || payload + 8 > end) return undefined;
    const next = frame[payload]!;
    if (protocol === IpProtocol.FRAGMENT) {
      const place = u16(frame, payload + 2);
      const whole = place >> 3 === 0 && (place & 1) === 0;
      if (!whole) fragment = { id: u32(frame, payload + 4), offset: place & 0xfff8, more: (place & 1) !== 0 };
      payload += FRAGMENT_HEADER;
      protocol = next;
      // What follows in a later fragment is the middle of something.
      if (fragment !== undefined) break;
      continue;
    }
    payload += 8 + frame[payload + 1]! * 8;
    protocol = next;
    if (payload > end) return undefined;
  }
  return {
    version: 6,
    source: frame.subarray(start + Ipv6.SOURCE, start + Ipv6.SOURCE + 16),
    destination: frame.subarray(start + Ipv6.DESTINATION, start + Ipv6.DESTINATION + 16),
    protocol,
    hops: frame[start + Ipv6.HOPS]!,
    frame,
    start,
    payload,
    end,
    fragment,
  };
}

/** Hop-by-hop options, destination options and routing have their length in the same place; fragments are our concern. */
function isExtension(protocol: number): boolean {
  return (
    protocol === IpProtocol.HOP_BY_HOP ||
    protocol === IpProtocol.DESTINATION ||
    protocol === IpProtocol.ROUTING ||
    protocol === IpProtocol.FRAGMENT
  );
}

export function ipHeaderLength(address: Uint8Array): number {
  return address.length === 4 ? Ipv4.HEADER : Ipv6.HEADER;
}

export interface IpHeader {
  readonly source: Uint8Array;
  readonly destination: Uint8Array;
  readonly protocol: number;
  /** Of the payload. */
  readonly length: number;
  readonly hops?: number;
  readonly id?: number;
  /** IPv4's flags and offset; none means: not to be fragmented. */
  readonly fragment?: number;
}

const DEFAULT_HOPS = 64;
const DONT_FRAGMENT = 0x4000;

/** Writes a header without options; all its bytes, so that the frame may have been used before. */
export function putIp(frame: Uint8Array, at: number, header: IpHeader): void {
  const { source, destination, protocol, length, hops = DEFAULT_HOPS } = header;
  if (source.length === 16) {
    frame[at] = 0x60;
    frame.fill(0, at + 1, at + 4);
    putU16(frame, at + Ipv6.LENGTH, length);
    frame[at + Ipv6.NEXT] = protocol;
    frame[at + Ipv6.HOPS] = hops;
    frame.set(source, at + Ipv6.SOURCE);
    frame.set(destination, at + Ipv6.DESTINATION);
    return;
  }
  putU16(frame, at, 0x4500);
  putU16(frame, at + Ipv4.LENGTH, Ipv4.HEADER + length);
  putU16(frame, at + Ipv4.ID, header.id ?? 0);
  putU16(frame, at + Ipv4.FRAGMENT, header.fragment ?? DONT_FRAGMENT);
  frame[at + Ipv4.TTL] = hops;
  frame[at + Ipv4.PROTOCOL] = protocol;
  putU16(frame, at + Ipv4.CHECKSUM, 0);
  frame.set(source, at + Ipv4.SOURCE);
  frame.set(destination, at + Ipv4.DESTINATION);
  putU16(frame, at + Ipv4.CHECKSUM, checksumOf(addWords(frame, at, at + Ipv4.HEADER)));
}
