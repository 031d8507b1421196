/** What is still to be done to a frame, as virtio's net device and Linux's taps write it: struct virtio_net_hdr (virtio 1.2, 5.1.6). */

import type { Offload } from "./port.ts";

/** u8 flags, u8 type, then u16 each. The last is virtio 1's; taps have ten bytes without it. */
export const VnetHeader = {
  FLAGS: 0,
  GSO_TYPE: 1,
  HDR_LEN: 2,
  GSO_SIZE: 4,
  CSUM_START: 6,
  CSUM_OFFSET: 8,
  NUM_BUFFERS: 10,
  LENGTH: 12,
} as const;
export const NEEDS_CSUM = 1;
export const Gso = { NONE: 0, TCPV4: 1, UDP: 3, TCPV6: 4, ECN: 0x80 } as const;

/**
 * Reads the header of a frame of so many bytes; undefined for nothing to do, false for what does not fit the frame, or is of large
 * datagrams where there are to be none.
 */
export function readVnetHeader(header: DataView, length: number, largeDatagrams = false): Offload | undefined | false {
  const needsChecksum = (header.getUint8(VnetHeader.FLAGS) & NEEDS_CSUM) !== 0;
  const type = header.getUint8(VnetHeader.GSO_TYPE);
  if (!needsChecksum) return type === Gso.NONE ? undefined : false;
  const checksum = {
    start: header.getUint16(VnetHeader.CSUM_START, true),
    offset: header.getUint16(VnetHeader.CSUM_OFFSET, true),
  };
  if (checksum.start + checksum.offset + 2 > length) return false;
  if (type === Gso.NONE) return { checksum };
  const kind = type & ~Gso.ECN;
  const size = header.getUint16(VnetHeader.GSO_SIZE, true);
  const headerBytes = header.getUint16(VnetHeader.HDR_LEN, true);
  if (size === 0 || headerBytes > length) return false;
  if (kind === Gso.UDP) return largeDatagrams && { checksum, fragments: { size, headerBytes } };
  if (kind !== Gso.TCPV4 && kind !== Gso.TCPV6) return false;
  const version = kind === Gso.TCPV4 ? 4 : 6;
  return { checksum, segments: { version, size, headerBytes, congestion: (type & Gso.ECN) !== 0 } };
}

/** Writes all of the header but the number of buffers. */
export function writeVnetHeader(header: DataView, { checksum, segments, fragments }: Offload = {}): void {
  for (let at = 0; at < VnetHeader.NUM_BUFFERS; at += 2) header.setUint16(at, 0, true);
  if (checksum === undefined) return;
  header.setUint8(VnetHeader.FLAGS, NEEDS_CSUM);
  header.setUint16(VnetHeader.CSUM_START, checksum.start, true);
  header.setUint16(VnetHeader.CSUM_OFFSET, checksum.offset, true);
  if (fragments !== undefined) {
    header.setUint8(VnetHeader.GSO_TYPE, Gso.UDP);
    header.setUint16(VnetHeader.GSO_SIZE, fragments.size, true);
    header.setUint16(VnetHeader.HDR_LEN, fragments.headerBytes, true);
  }
  if (segments === undefined) return;
  const kind = segments.version === 4 ? Gso.TCPV4 : Gso.TCPV6;
  header.setUint8(VnetHeader.GSO_TYPE, kind | (segments.congestion ? Gso.ECN : 0));
  header.setUint16(VnetHeader.GSO_SIZE, segments.size, true);
  header.setUint16(VnetHeader.HDR_LEN, segments.headerBytes, true);
}
