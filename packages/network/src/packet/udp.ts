/** Datagrams of UDP (RFC 768). */

import { addWords, checksumOf, fold, pseudoHeader } from "./checksum.ts";
import { putU16, u16 } from "./ethernet.ts";
import { type IpPacket, IpProtocol } from "./ip.ts";

export const Udp = { SOURCE: 0, DESTINATION: 2, LENGTH: 4, CHECKSUM: 6, HEADER: 8 } as const;

export interface Datagram {
  readonly sourcePort: number;
  readonly destinationPort: number;
  /** A view of the frame. */
  readonly data: Uint8Array;
}

/** `checked`: the checksum has yet to be made, or need not be looked at. */
export function parseUdp(
  { frame, source, destination, payload, end, version }: IpPacket,
  checked: boolean,
): Datagram | undefined {
  if (payload + Udp.HEADER > end) return undefined;
  const length = u16(frame, payload + Udp.LENGTH);
  if (length < Udp.HEADER || payload + length > end) return undefined;
  if (!checked) {
    const none = u16(frame, payload + Udp.CHECKSUM) === 0;
    if (none && version === 6) return undefined;
    const sum = pseudoHeader(source, destination, IpProtocol.UDP, length);
    if (!none && fold(addWords(frame, payload, payload + length, sum)) !== 0xffff) return undefined;
  }
  return {
    sourcePort: u16(frame, payload + Udp.SOURCE),
    destinationPort: u16(frame, payload + Udp.DESTINATION),
    data: frame.subarray(payload + Udp.HEADER, payload + length),
  };
}

/** A datagram as IP's payload. */
export function udpPayload(
  source: Uint8Array,
  sourcePort: number,
  destination: Uint8Array,
  port: number,
  data: Uint8Array,
): Uint8Array {
  const bytes = new Uint8Array(Udp.HEADER + data.length);
  putU16(bytes, Udp.SOURCE, sourcePort);
  putU16(bytes, Udp.DESTINATION, port);
  putU16(bytes, Udp.LENGTH, bytes.length);
  bytes.set(data, Udp.HEADER);
  const sum = pseudoHeader(source, destination, IpProtocol.UDP, bytes.length);
  // A sum of 0 is sent as its other form: 0 says that there is none.
  putU16(bytes, Udp.CHECKSUM, checksumOf(addWords(bytes, 0, bytes.length, sum)) || 0xffff);
  return bytes;
}
