/** Segments of TCP (RFC 9293) with the options of RFC 7323 (window scale) and RFC 2018 (selective acknowledgement). */

import { addWords, fold, pseudoHeader } from "./checksum.ts";
import { putU16, putU32, u16, u32 } from "./ethernet.ts";
import { type IpPacket, IpProtocol } from "./ip.ts";

export const Tcp = {
  SOURCE: 0,
  DESTINATION: 2,
  SEQUENCE: 4,
  ACKNOWLEDGEMENT: 8,
  OFFSET: 12,
  FLAGS: 13,
  WINDOW: 14,
  CHECKSUM: 16,
  URGENT: 18,
  HEADER: 20,
} as const;
export const TcpFlag = { FIN: 1, SYN: 2, RST: 4, PSH: 8, ACK: 16, URG: 32 } as const;
const Option = { END: 0, NOP: 1, MSS: 2, WINDOW_SCALE: 3, SACK_PERMITTED: 4, SACK: 5 } as const;

/** RFC 7323, 2.3. */
const MOST_WINDOW_SCALE = 14;

/** Sequence numbers from one up to another. */
export interface Range {
  readonly from: number;
  readonly to: number;
}

export interface Segment {
  readonly sourcePort: number;
  readonly destinationPort: number;
  readonly sequence: number;
  readonly acknowledgement: number;
  readonly flags: number;
  /** As it stands there: not scaled. */
  readonly window: number;
  /** A view of the frame. */
  readonly data: Uint8Array;
  /** Undefined where the option is absent. */
  readonly mss: number | undefined;
  readonly windowScale: number | undefined;
  readonly sackPermitted: boolean;
  readonly sack: readonly Range[];
}

const NO_SACK: readonly Range[] = [];

/** `checked`: the checksum has yet to be made, or need not be looked at. */
export function parseTcp(
  { frame, source, destination, payload, end }: IpPacket,
  checked: boolean,
): Segment | undefined {
  if (payload + Tcp.HEADER > end) return undefined;
  const header = (frame[payload + Tcp.OFFSET]! >> 4) * 4;
  if (header < Tcp.HEADER || payload + header > end) return undefined;
  if (!checked) {
    const sum = pseudoHeader(source, destination, IpProtocol.TCP, end - payload);
    if (fold(addWords(frame, payload, end, sum)) !== 0xffff) return undefined;
  }
  const options = header > Tcp.HEADER ? parseOptions(frame, payload + Tcp.HEADER, payload + header) : undefined;
  return {
    sourcePort: u16(frame, payload + Tcp.SOURCE),
    destinationPort: u16(frame, payload + Tcp.DESTINATION),
    sequence: u32(frame, payload + Tcp.SEQUENCE),
    acknowledgement: u32(frame, payload + Tcp.ACKNOWLEDGEMENT),
    flags: frame[payload + Tcp.FLAGS]!,
    window: u16(frame, payload + Tcp.WINDOW),
    data: frame.subarray(payload + header, end),
    mss: options?.mss,
    windowScale: options?.windowScale,
    sackPermitted: options?.sackPermitted ?? false,
    sack: options?.sack ?? NO_SACK,
  };
}

function parseOptions(frame: Uint8Array, from: number, to: number) {
  let mss: number | undefined;
  let windowScale: number | undefined;
  let sackPermitted = false;
  let sack: Range[] | undefined;
  for (let at = from; at < to && frame[at] !== Option.END; ) {
    if (frame[at] === Option.NOP) {
      at += 1;
      continue;
    }
    const length = at + 1 < to ? frame[at + 1]! : 0;
    // A length that leads nowhere ends the options; what was read before counts.
    if (length < 2 || at + length > to) break;
    switch (frame[at]) {
      case Option.MSS:
        if (length === 4) mss = u16(frame, at + 2);
        break;
      case Option.WINDOW_SCALE:
        if (length === 3) windowScale = Math.min(frame[at + 2]!, MOST_WINDOW_SCALE);
        break;
      case Option.SACK_PERMITTED:
        if (length === 2) sackPermitted = true;
        break;
      case Option.SACK:
        sack = [];
        for (let block = at + 2; block + 8 <= at + length; block += 8) {
          sack.push({ from: u32(frame, block), to: u32(frame, block + 4) });
        }
        break;
      default:
    }
    at += length;
  }
  return { mss, windowScale, sackPermitted, sack };
}

/** The options of a SYN. */
export function synOptions(mss: number, windowScale: number | undefined, sackPermitted: boolean): Uint8Array {
  const options = [Option.MSS, 4, mss >> 8, mss & 0xff];
  if (windowScale !== undefined) options.push(Option.NOP, Option.WINDOW_SCALE, 3, windowScale);
  if (sackPermitted) options.push(Option.NOP, Option.NOP, Option.SACK_PERMITTED, 2);
  return Uint8Array.from(options);
}

/** What arrived out of order, the latest first; there is room for four. */
export function sackOption(ranges: readonly Range[]): Uint8Array {
  const count = Math.min(ranges.length, 4);
  if (count === 0) return new Uint8Array(0);
  const bytes = new Uint8Array(4 + count * 8);
  bytes.set([Option.NOP, Option.NOP, Option.SACK, 2 + count * 8]);
  for (let index = 0; index < count; index++) {
    putU32(bytes, 4 + index * 8, ranges[index]!.from);
    putU32(bytes, 8 + index * 8, ranges[index]!.to);
  }
  return bytes;
}

export interface TcpHeader {
  readonly sourcePort: number;
  readonly destinationPort: number;
  readonly sequence: number;
  readonly acknowledgement: number;
  readonly flags: number;
  readonly window: number;
  readonly options: Uint8Array;
}

/** Writes the header, its checksum left 0. */
export function putTcp(frame: Uint8Array, at: number, header: TcpHeader): void {
  putU16(frame, at + Tcp.SOURCE, header.sourcePort);
  putU16(frame, at + Tcp.DESTINATION, header.destinationPort);
  putU32(frame, at + Tcp.SEQUENCE, header.sequence);
  putU32(frame, at + Tcp.ACKNOWLEDGEMENT, header.acknowledgement);
  frame[at + Tcp.OFFSET] = ((Tcp.HEADER + header.options.length) / 4) << 4;
  frame[at + Tcp.FLAGS] = header.flags;
  putU16(frame, at + Tcp.WINDOW, header.window);
  putU32(frame, at + Tcp.CHECKSUM, 0);
  frame.set(header.options, at + Tcp.HEADER);
}
