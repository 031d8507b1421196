/** Cutting large TCP packets into segments for who does not take them whole: what a card's driver otherwise leaves to the card. */

import type { Offload } from "../port.ts";
import { addWords, checksumOf, fold, pseudoHeader } from "./checksum.ts";
import { Ethernet, EtherType, putU16, putU32, u16, u32 } from "./ethernet.ts";
import { IpProtocol, Ipv4, Ipv6 } from "./ip.ts";
import { Tcp, TcpFlag } from "./tcp.ts";

const VLAN_TAG = 0x8100;
/** Only a packet's last segment has these, and only the first the next one (RFC 3168, 6.1.2). */
const AT_THE_END = TcpFlag.FIN | TcpFlag.PSH;
const CONGESTION_REDUCED = 0x80;
/** 64 KiB in pieces that any link takes are 123 (RFC 9293, 3.7.1). */
const MOST_PIECES = 1024;

/** The segments, whole and with their checksums; none for what is no such packet. */
export function cutSegments(frame: Uint8Array, { checksum, segments }: Required<Offload>): Uint8Array[] {
  const ip = u16(frame, Ethernet.TYPE) === VLAN_TAG ? Ethernet.LENGTH + 4 : Ethernet.LENGTH;
  const six = segments.version === 6;
  const tcp = checksum.start;
  if (u16(frame, ip - 2) !== (six ? EtherType.IPV6 : EtherType.IPV4)) return [];
  if (tcp < ip + (six ? Ipv6.HEADER : Ipv4.HEADER) || tcp + Tcp.HEADER > frame.length) return [];
  const data = tcp + (frame[tcp + Tcp.OFFSET]! >> 4) * 4;
  if (data < tcp + Tcp.HEADER || data > frame.length) return [];
  if ((frame.length - data) / segments.size > MOST_PIECES) return [];
  const source = frame.subarray(ip + (six ? Ipv6.SOURCE : Ipv4.SOURCE)).subarray(0, six ? 16 : 4);
  const destination = frame.subarray(ip + (six ? Ipv6.DESTINATION : Ipv4.DESTINATION)).subarray(0, six ? 16 : 4);
  const [sequence, flags, id] = [u32(frame, tcp + Tcp.SEQUENCE), frame[tcp + Tcp.FLAGS]!, u16(frame, ip + Ipv4.ID)];
  const pieces: Uint8Array[] = [];
  for (let from = data; from < frame.length || from === data; from += segments.size) {
    const end = Math.min(from + segments.size, frame.length);
    const piece = new Uint8Array(data + end - from);
    piece.set(frame.subarray(0, data));
    piece.set(frame.subarray(from, end), data);
    if (six) putU16(piece, ip + Ipv6.LENGTH, piece.length - ip - Ipv6.HEADER);
    else {
      putU16(piece, ip + Ipv4.LENGTH, piece.length - ip);
      putU16(piece, ip + Ipv4.ID, id + pieces.length);
      putU16(piece, ip + Ipv4.CHECKSUM, 0);
      putU16(piece, ip + Ipv4.CHECKSUM, checksumOf(addWords(piece, ip, ip + (piece[ip]! & 0xf) * 4)));
    }
    putU32(piece, tcp + Tcp.SEQUENCE, sequence + from - data);
    piece[tcp + Tcp.FLAGS] = flags & ~(end < frame.length ? AT_THE_END : 0) & ~(from > data ? CONGESTION_REDUCED : 0);
    putU16(piece, tcp + Tcp.CHECKSUM, 0);
    const sum = fold(pseudoHeader(source, destination, IpProtocol.TCP, piece.length - tcp));
    putU16(piece, tcp + Tcp.CHECKSUM, checksumOf(addWords(piece, tcp, piece.length, sum)));
    pieces.push(piece);
  }
  return pieces;
}
