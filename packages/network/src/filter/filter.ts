/**
 * Which frames of a guest go out. What cannot be read to its end is not let through where a rule would have to know it: a
 * receiver may read it otherwise.
 */

import { isUnspecified, sameAddress } from "../packet/address.ts";
import { Ethernet, EtherType, parseArp, u16 } from "../packet/ethernet.ts";
import { Icmp6Type } from "../packet/icmp.ts";
import { type IpPacket, IpProtocol, parseIp } from "../packet/ip.ts";
import { Udp } from "../packet/udp.ts";
import type { Rule } from "./rules.ts";

const ETHER_RARP = 0x8035;
const DHCP_SERVER = 67;
const DHCPV6_SERVER = 547;
/** Of an advertisement or solicitation before its options, and of a router's (RFC 4861, 4). */
const NEIGHBOUR_BYTES = 24;
const ROUTER_BYTES = 16;
const SOLICITED_ROUTER_BYTES = 8;
const REDIRECT_BYTES = 40;
const IGMP = 2;
/** Who is in which group (RFC 2710, RFC 3810). */
const GROUPS: readonly number[] = [130, 131, 132, 143];
/** What comes behind these is not known from a fragment. */
const EXTENSIONS: readonly number[] = [IpProtocol.HOP_BY_HOP, IpProtocol.ROUTING, IpProtocol.DESTINATION];
const LinkOption = { SOURCE_MAC: 1, TARGET_MAC: 2 } as const;

export interface FilterOptions {
  readonly rules: readonly Rule[];
  /** The card's address. */
  readonly mac: Uint8Array;
  /** Whether an address is the guest's; asking for one may make it so. */
  readonly mayUse: (address: Uint8Array) => boolean;
}

export class Filter {
  readonly #rules: ReadonlySet<Rule>;
  readonly #mac: Uint8Array;
  readonly #mayUse: (address: Uint8Array) => boolean;

  constructor({ rules, mac, mayUse }: FilterOptions) {
    this.#rules = new Set(rules);
    this.#mac = mac;
    this.#mayUse = mayUse;
  }

  /** Without a VLAN's tag. */
  accepts(frame: Uint8Array): boolean {
    if (frame.length < Ethernet.LENGTH) return false;
    const source = frame.subarray(Ethernet.SOURCE, Ethernet.SOURCE + 6);
    if (this.#rules.has("no-mac-spoofing") && !sameAddress(source, this.#mac)) return false;
    switch (u16(frame, Ethernet.TYPE)) {
      case EtherType.ARP:
        return !this.#rules.has("no-arp-spoofing") || this.#acceptsArp(frame);
      case EtherType.IPV4:
      case EtherType.IPV6:
        return this.#acceptsIp(frame);
      case ETHER_RARP:
        // "I am here": what QEMU's machines say after a migration.
        return true;
      default:
        return !this.#rules.has("no-other-l2-traffic");
    }
  }

  #acceptsArp(frame: Uint8Array): boolean {
    const arp = parseArp(frame);
    if (arp === undefined || !sameAddress(arp.senderMac, this.#mac)) return false;
    // A probe says of nobody that he has an address (RFC 5227, 2.1.1).
    return isUnspecified(arp.sender) || this.#mayUse(arp.sender);
  }

  #acceptsIp(frame: Uint8Array): boolean {
    const spoofing = this.#rules.has("no-ip-spoofing");
    const servers = this.#rules.has("no-rogue-servers");
    if (!spoofing && !servers) return true;
    const packet = parseIp(frame);
    if (packet === undefined) return false;
    const isNobody = isUnspecified(packet.source);
    if (spoofing && !isNobody && !this.#mayUse(packet.source)) return false;
    if (servers && packet.protocol === IpProtocol.UDP && isServer(packet)) return false;
    if (packet.fragment !== undefined && EXTENSIONS.includes(packet.protocol)) return false;
    if (packet.version === 6 && packet.protocol === IpProtocol.ICMPV6) {
      return this.#acceptsDiscovery(packet, isNobody, spoofing, servers);
    }
    // Who has no address yet asks for one and does nothing else.
    return !spoofing || !isNobody || packet.protocol === IpProtocol.UDP || packet.protocol === IGMP;
  }

  #acceptsDiscovery(packet: IpPacket, isNobody: boolean, spoofing: boolean, servers: boolean): boolean {
    const { frame, payload, end, fragment } = packet;
    // Only a packet's beginning has its type; a later piece of a discovery is nobody's (RFC 6980).
    if (fragment !== undefined && fragment.offset > 0) return true;
    if (end - payload < 8) return false;
    const type = frame[payload]!;
    if (type < Icmp6Type.ROUTER_SOLICITATION || type > Icmp6Type.REDIRECT) {
      return !spoofing || !isNobody || GROUPS.includes(type);
    }
    if (fragment !== undefined) return false;
    if (type === Icmp6Type.ROUTER_ADVERTISEMENT || type === Icmp6Type.REDIRECT) {
      return (
        !servers && (!spoofing || this.#ownMacOnly(packet, type === Icmp6Type.REDIRECT ? REDIRECT_BYTES : ROUTER_BYTES))
      );
    }
    if (!spoofing) return true;
    if (type === Icmp6Type.ROUTER_SOLICITATION) return this.#ownMacOnly(packet, SOLICITED_ROUTER_BYTES);
    if (end - payload < NEIGHBOUR_BYTES) return false;
    const target = frame.subarray(payload + 8, payload + NEIGHBOUR_BYTES);
    if (type === Icmp6Type.NEIGHBOUR_ADVERTISEMENT && !this.#mayUse(target)) return false;
    return this.#ownMacOnly(packet, NEIGHBOUR_BYTES);
  }

  /** Whether the options behind so many bytes name no other card. */
  #ownMacOnly({ frame, payload, end }: IpPacket, bytes: number): boolean {
    for (let at = payload + bytes; at < end; ) {
      const length = (frame[at + 1] ?? 0) * 8;
      if (length === 0 || at + length > end) return false;
      const isMac = frame[at] === LinkOption.SOURCE_MAC || frame[at] === LinkOption.TARGET_MAC;
      if (isMac && !sameAddress(frame.subarray(at + 2, at + 8), this.#mac)) return false;
      at += length;
    }
    return true;
  }
}

/** From a DHCP server's port; a first piece that ends before its ports is taken for one. */
function isServer({ frame, payload, end, version, fragment }: IpPacket): boolean {
  if (fragment !== undefined && fragment.offset > 0) return false;
  if (payload + Udp.HEADER > end) return true;
  return u16(frame, payload + Udp.SOURCE) === (version === 4 ? DHCP_SERVER : DHCPV6_SERVER);
}
