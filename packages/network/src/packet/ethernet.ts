/** Frames of Ethernet, and the address resolution of IPv4 on it (RFC 826). */

/** Byte offsets. */
export const Ethernet = { DESTINATION: 0, SOURCE: 6, TYPE: 12, LENGTH: 14 } as const;
export const EtherType = { IPV4: 0x0800, ARP: 0x0806, IPV6: 0x86dd } as const;

/** Offsets from the ARP packet's beginning, for IPv4 on Ethernet. */
export const Arp = {
  HARDWARE: 0,
  PROTOCOL: 2,
  LENGTHS: 4,
  OPERATION: 6,
  SENDER_MAC: 8,
  SENDER: 14,
  TARGET_MAC: 18,
  TARGET: 24,
  LENGTH: 28,
} as const;
export const ArpOperation = { REQUEST: 1, REPLY: 2 } as const;

export const BROADCAST = new Uint8Array(6).fill(0xff);

export function u16(bytes: Uint8Array, at: number): number {
  return (bytes[at]! << 8) | bytes[at + 1]!;
}

export function u32(bytes: Uint8Array, at: number): number {
  return ((bytes[at]! << 24) | (bytes[at + 1]! << 16) | (bytes[at + 2]! << 8) | bytes[at + 3]!) >>> 0;
}

export function putU16(bytes: Uint8Array, at: number, value: number): void {
  bytes[at] = value >>> 8;
  bytes[at + 1] = value;
}

export function putU32(bytes: Uint8Array, at: number, value: number): void {
  bytes[at] = value >>> 24;
  bytes[at + 1] = value >>> 16;
  bytes[at + 2] = value >>> 8;
  bytes[at + 3] = value;
}

export function putEthernet(frame: Uint8Array, destination: Uint8Array, source: Uint8Array, type: number): void {
  frame.set(destination, Ethernet.DESTINATION);
  frame.set(source, Ethernet.SOURCE);
  putU16(frame, Ethernet.TYPE, type);
}

export interface ArpPacket {
  readonly operation: number;
  readonly senderMac: Uint8Array;
  readonly sender: Uint8Array;
  readonly target: Uint8Array;
}

/** Undefined for what is not of IPv4 on Ethernet, or not whole. */
export function parseArp(frame: Uint8Array): ArpPacket | undefined {
  const at = Ethernet.LENGTH;
  if (frame.length < at + Arp.LENGTH) return undefined;
  if (u16(frame, at) !== 1 || u16(frame, at + Arp.PROTOCOL) !== EtherType.IPV4) return undefined;
  if (u16(frame, at + Arp.LENGTHS) !== 0x0604) return undefined;
  const field = (offset: number, length: number) => frame.slice(at + offset, at + offset + length);
  return {
    operation: u16(frame, at + Arp.OPERATION),
    senderMac: field(Arp.SENDER_MAC, 6),
    sender: field(Arp.SENDER, 4),
    target: field(Arp.TARGET, 4),
  };
}

export function arpFrame(
  operation: number,
  from: { mac: Uint8Array; address: Uint8Array },
  to: { mac: Uint8Array; address: Uint8Array },
): Uint8Array {
  const frame = new Uint8Array(Ethernet.LENGTH + Arp.LENGTH);
  putEthernet(frame, to.mac, from.mac, EtherType.ARP);
  const at = Ethernet.LENGTH;
  putU16(frame, at, 1);
  putU16(frame, at + Arp.PROTOCOL, EtherType.IPV4);
  putU16(frame, at + Arp.LENGTHS, 0x0604);
  putU16(frame, at + Arp.OPERATION, operation);
  frame.set(from.mac, at + Arp.SENDER_MAC);
  frame.set(from.address, at + Arp.SENDER);
  if (operation === ArpOperation.REPLY) frame.set(to.mac, at + Arp.TARGET_MAC);
  frame.set(to.address, at + Arp.TARGET);
  return frame;
}
