/** Messages of ICMP (RFC 792) and ICMPv6 (RFC 4443). */

import { addWords, checksumOf, fold, pseudoHeader } from "./checksum.ts";
import { putU16, putU32 } from "./ethernet.ts";
import { type IpPacket, IpProtocol } from "./ip.ts";

/** type, code, u16 checksum, then four bytes of the type's own. */
export const Icmp = { TYPE: 0, CODE: 1, CHECKSUM: 2, ID: 4, SEQUENCE: 6, HEADER: 8 } as const;
export const IcmpType = { ECHO_REPLY: 0, UNREACHABLE: 3, ECHO: 8, TIME_EXCEEDED: 11 } as const;
export const Icmp6Type = {
  UNREACHABLE: 1,
  TOO_BIG: 2,
  TIME_EXCEEDED: 3,
  ECHO: 128,
  ECHO_REPLY: 129,
  ROUTER_SOLICITATION: 133,
  ROUTER_ADVERTISEMENT: 134,
  NEIGHBOUR_SOLICITATION: 135,
  NEIGHBOUR_ADVERTISEMENT: 136,
  REDIRECT: 137,
} as const;

/** Why a packet could not go where it was to: the codes of both families. */
export const Unreachable = {
  network: { four: 0, six: 0 },
  host: { four: 1, six: 3 },
  port: { four: 3, six: 4 },
  prohibited: { four: 13, six: 1 },
} as const;
export type UnreachableReason = keyof typeof Unreachable;

/** Longest quotation of an IPv4 packet (RFC 1812, 4.3.2.3) and of an IPv6 one (RFC 4443, 2.4c). */
const QUOTED = { 4: 576 - 28, 6: 1280 - 48 } as const;

/** Whether a message's checksum is right. */
export function isWholeIcmp({ frame, source, destination, payload, end, version }: IpPacket): boolean {
  if (payload + Icmp.HEADER > end) return false;
  const sum = version === 4 ? 0 : pseudoHeader(source, destination, IpProtocol.ICMPV6, end - payload);
  return fold(addWords(frame, payload, end, sum)) === 0xffff;
}

/** Puts the checksum into a message of `source` to `destination`. */
export function finishIcmp(message: Uint8Array, source: Uint8Array, destination: Uint8Array): Uint8Array {
  putU16(message, Icmp.CHECKSUM, 0);
  const sum = source.length === 4 ? 0 : pseudoHeader(source, destination, IpProtocol.ICMPV6, message.length);
  putU16(message, Icmp.CHECKSUM, checksumOf(addWords(message, 0, message.length, sum)));
  return message;
}

/** An error about a packet, without its checksum. */
export function icmpError(about: IpPacket, type: number, code: number, info = 0): Uint8Array {
  const quoted = about.frame.subarray(about.start, Math.min(about.end, about.start + QUOTED[about.version]));
  const message = new Uint8Array(Icmp.HEADER + quoted.length);
  message[Icmp.TYPE] = type;
  message[Icmp.CODE] = code;
  putU32(message, Icmp.ID, info);
  message.set(quoted, Icmp.HEADER);
  return message;
}
