/** Ethernet towards the guests: who has which address (ARP, RFC 826; NDP, RFC 4861), and headers for what is sent to them. */

import { addressKey, addressOfKey, isUnspecified, isWithin, type Prefix, sameAddress } from "../packet/address.ts";
import { fold, pseudoHeader } from "../packet/checksum.ts";
import {
  ArpOperation,
  type ArpPacket,
  arpFrame,
  BROADCAST,
  Ethernet,
  EtherType,
  putEthernet,
  putU16,
} from "../packet/ethernet.ts";
import { type IpHeader, IpProtocol, ipHeaderLength, putIp } from "../packet/ip.ts";
import { Udp } from "../packet/udp.ts";
import type { Offload } from "../port.ts";
import { solicitation } from "./neighbour-discovery.ts";
import { Wire } from "./wire.ts";

/** Stations that are remembered; on a cable to one guest there are a few. */
const MOST_NEIGHBOURS = 1024;
/** IPv4 frames without DHCP's own are 60 bytes at least; cards pad, and so do we not: a virtual card takes any. */
const EVERYBODY4 = Uint8Array.of(255, 255, 255, 255);

/** Who leads out by IPv6: an address of the link, and whose it is there. */
export interface Router6 {
  readonly address: Uint8Array;
  readonly mac: Uint8Array;
}

export interface Addresses {
  readonly mac: Uint8Array;
  readonly network: Prefix;
  readonly network6: Prefix;
  /** The gateway's own, and the name server's, of both families. */
  readonly gateway: Uint8Array;
  readonly gateway6: Uint8Array;
  readonly gatewayLocal6: Uint8Array;
  readonly router6: Router6;
  readonly names: Uint8Array;
  readonly names6: Uint8Array;
}

export class GuestLink {
  readonly wire = new Wire();
  readonly addresses: Addresses;
  readonly mtu: number;
  readonly #neighbours = new Map<string, Uint8Array>();

  constructor(addresses: Addresses, mtu: number) {
    this.addresses = addresses;
    this.mtu = mtu;
  }

  isOwn(address: Uint8Array): boolean {
    const { gateway, gateway6, gatewayLocal6, names, names6 } = this.addresses;
    if (address.length === 4) return sameAddress(gateway, address) || sameAddress(names, address);
    return [gateway6, gatewayLocal6, names6].some((own) => sameAddress(own, address));
  }

  /** Whether a guest may have this address: one of its network that is not ours, or one of its own making. */
  isGuest(address: Uint8Array): boolean {
    const { network, network6 } = this.addresses;
    const isLocal = address.length === 16 && address[0] === 0xfe && (address[1]! & 0xc0) === 0x80;
    return (isWithin(address, network) || isWithin(address, network6) || isLocal) && !this.isOwn(address);
  }

  /** A station has shown where it is. */
  learn(address: Uint8Array, mac: Uint8Array): void {
    const key = addressKey(address);
    const known = this.#neighbours.get(key);
    if (known !== undefined && sameAddress(known, mac)) return;
    if (mac[0]! & 1 || !this.isGuest(address)) return;
    if (known === undefined && this.#neighbours.size >= MOST_NEIGHBOURS) {
      this.#neighbours.delete(this.#neighbours.keys().next().value!);
    }
    this.#neighbours.set(key, mac.slice());
  }

  macOf(address: Uint8Array): Uint8Array | undefined {
    return this.#neighbours.get(addressKey(address));
  }

  /** All that a station was seen with. */
  addressesOf(mac: Uint8Array): Uint8Array[] {
    const all = [...this.#neighbours].filter(([, one]) => sameAddress(one, mac));
    return all.map(([key]) => addressOfKey(key));
  }

  forget(address: Uint8Array): void {
    this.#neighbours.delete(addressKey(address));
  }

  receiveArp({ operation, sender, senderMac, target }: ArpPacket): void {
    if (!isUnspecified(sender)) this.learn(sender, senderMac);
    if (operation !== ArpOperation.REQUEST || target.length !== 4 || !this.isOwn(target)) return;
    const own = { mac: this.addresses.mac, address: target };
    this.wire.send(arpFrame(ArpOperation.REPLY, own, { mac: senderMac, address: sender }));
  }

  /** Writes the headers of Ethernet and IP. False while the station is not known: it is asked then. */
  putHeaders(frame: Uint8Array, header: IpHeader): boolean {
    const mac = this.#resolve(header.destination);
    if (mac === undefined) return false;
    const type = header.destination.length === 4 ? EtherType.IPV4 : EtherType.IPV6;
    putEthernet(frame, mac, this.addresses.mac, type);
    putIp(frame, Ethernet.LENGTH, header);
    return true;
  }

  #resolve(address: Uint8Array): Uint8Array | undefined {
    if (sameAddress(address, EVERYBODY4)) return BROADCAST;
    // RFC 2464, 7.
    if (address.length === 16 && address[0] === 0xff) return Uint8Array.of(0x33, 0x33, ...address.subarray(12));
    const known = this.macOf(address);
    if (known === undefined) this.ask(address);
    return known;
  }

  /** Asks who has an address. */
  ask(address: Uint8Array): void {
    const { mac, gateway } = this.addresses;
    if (address.length === 4) {
      this.wire.send(arpFrame(ArpOperation.REQUEST, { mac, address: gateway }, { mac: BROADCAST, address }));
    } else this.sendIp(...solicitation(this.addresses, address));
  }

  /** Sends an IP packet, in fragments if it must be. */
  sendIp(header: Omit<IpHeader, "length">, payload: Uint8Array): void {
    const headerLength = ipHeaderLength(header.destination);
    const at = Ethernet.LENGTH + headerLength;
    const isLong = headerLength + payload.length > this.mtu;
    const { takes } = this.wire;
    if (isLong && !(takes.checksum && takes.udp && header.protocol === IpProtocol.UDP)) {
      this.#sendFragments(header, payload);
      return;
    }
    const frame = new Uint8Array(at + payload.length);
    frame.set(payload, at);
    if (!this.putHeaders(frame, { ...header, length: payload.length })) return;
    if (isLong) this.wire.send(frame, this.#asFragments(frame, at, header));
    else this.wire.send(frame);
  }

  /** A datagram that the guest takes as one, as if it were yet to be sent in fragments. */
  #asFragments(frame: Uint8Array, at: number, { source, destination }: Omit<IpHeader, "length">): Offload {
    putU16(frame, at + Udp.CHECKSUM, fold(pseudoHeader(source, destination, IpProtocol.UDP, frame.length - at)));
    const room = this.mtu - (at - Ethernet.LENGTH) - (destination.length === 16 ? 8 : 0);
    return {
      checksum: { start: at, offset: Udp.CHECKSUM },
      fragments: { size: room & ~7, headerBytes: at + Udp.HEADER },
    };
  }

  #fragmentId = 1;

  #sendFragments(header: Omit<IpHeader, "length">, payload: Uint8Array): void {
    const six = header.destination.length === 16;
    const headerLength = ipHeaderLength(header.destination) + (six ? 8 : 0);
    const step = (this.mtu - headerLength) & ~7;
    const id = this.#fragmentId++ & 0xffff;
    for (let from = 0; from < payload.length; from += step) {
      const piece = payload.subarray(from, from + step);
      const more = from + step < payload.length;
      const frame = new Uint8Array(Ethernet.LENGTH + headerLength + piece.length);
      frame.set(piece, Ethernet.LENGTH + headerLength);
      // RFC 8200, 4.5: next header, reserved, offset with the flag in its last bit, identification.
      const at = Ethernet.LENGTH + headerLength - 8;
      const whole = six
        ? { ...header, protocol: 44, length: piece.length + 8 }
        : { ...header, id, fragment: (from >> 3) | (more ? 0x2000 : 0), length: piece.length };
      if (six) frame.set([header.protocol, 0, from >> 8, (from & 0xf8) | (more ? 1 : 0), 0, 0, id >> 8, id & 0xff], at);
      if (this.putHeaders(frame, whole)) this.wire.send(frame);
    }
  }

  /** The guest begins anew. */
  clear(): void {
    this.#neighbours.clear();
    this.wire.clear();
  }
}
