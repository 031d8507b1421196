/** Who has an address of IPv6, and who leads out (RFC 4861), as the guests' router says it. */

import { isUnspecified } from "../packet/address.ts";
import { putU16, putU32 } from "../packet/ethernet.ts";
import { finishIcmp, Icmp, Icmp6Type } from "../packet/icmp.ts";
import { type IpHeader, type IpPacket, IpProtocol } from "../packet/ip.ts";
import type { Addresses, GuestLink } from "./link.ts";

const OptionType = { SOURCE_MAC: 1, TARGET_MAC: 2, PREFIX: 3, MTU: 5, NAME_SERVERS: 25, SEARCH: 31 } as const;
/** All of this must have come over one link (RFC 4861, 6.1 and 7.1). */
const SAME_LINK = 255;
export const ALL_NODES = Uint8Array.of(0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1);
/** RFC 4861's longest life of a router is 9000 s; who is told again within that keeps it. */
export const ROUTER_LIFE_S = 9000;
const PREFIX_LIFE_S = 86400;

type Message = [header: Omit<IpHeader, "length">, payload: Uint8Array];

function message(source: Uint8Array, destination: Uint8Array, body: Uint8Array): Message {
  const header = { source, destination, protocol: IpProtocol.ICMPV6, hops: SAME_LINK };
  return [header, finishIcmp(body, source, destination)];
}

function macOption(type: number, mac: Uint8Array): number[] {
  return [type, 1, ...mac];
}

/** Asks who has an address. */
export function solicitation({ mac, gatewayLocal6 }: Addresses, address: Uint8Array): Message {
  // RFC 4291, 2.7.1: the group of all whose address ends with these three bytes.
  const group = Uint8Array.of(0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0xff, ...address.subarray(13));
  const head = [Icmp6Type.NEIGHBOUR_SOLICITATION, 0, 0, 0, 0, 0, 0, 0];
  return message(
    gatewayLocal6,
    group,
    Uint8Array.from([...head, ...address, ...macOption(OptionType.SOURCE_MAC, mac)]),
  );
}

function advertisement({ mac }: Addresses, own: Uint8Array, to: Uint8Array, solicited: boolean): Message {
  // Router, solicited, override.
  const head = [Icmp6Type.NEIGHBOUR_ADVERTISEMENT, 0, 0, 0, solicited ? 0xe0 : 0xa0, 0, 0, 0];
  return message(own, to, Uint8Array.from([...head, ...own, ...macOption(OptionType.TARGET_MAC, mac)]));
}

/** What a router says: itself, the prefix to make addresses of, name servers (RFC 8106), and that DHCPv6 has more. */
export function routerAdvertisement(link: GuestLink, to: Uint8Array, search: Uint8Array): Message {
  const { network6, names6, router6 } = link.addresses;
  const paddedSearch = new Uint8Array(Math.ceil(search.length / 8) * 8);
  paddedSearch.set(search);
  const body = new Uint8Array(16 + 8 + 8 + 32 + 24 + 8 + paddedSearch.length);
  // Hop limit 64; addresses and more from DHCPv6, too.
  body.set([Icmp6Type.ROUTER_ADVERTISEMENT, 0, 0, 0, 64, 0xc0]);
  putU16(body, 6, ROUTER_LIFE_S);
  body.set(macOption(OptionType.SOURCE_MAC, router6.mac), 16);
  body.set([OptionType.MTU, 1], 24);
  putU32(body, 28, link.mtu);
  // On this link, and good for stateless configuration.
  body.set([OptionType.PREFIX, 4, network6.bits, 0xc0], 32);
  putU32(body, 36, PREFIX_LIFE_S);
  putU32(body, 40, PREFIX_LIFE_S);
  body.set(network6.address, 48);
  body.set([OptionType.NAME_SERVERS, 3], 64);
  putU32(body, 68, ROUTER_LIFE_S);
  body.set(names6, 72);
  body.set([OptionType.SEARCH, 1 + paddedSearch.length / 8], 88);
  putU32(body, 92, ROUTER_LIFE_S);
  body.set(paddedSearch, 96);
  return message(router6.address, to, body);
}

/** Answers what is about neighbours and routers; false for other messages. */
export function receiveDiscovery(link: GuestLink, packet: IpPacket, search: Uint8Array): boolean {
  const { frame, payload, end, source, hops } = packet;
  const type = frame[payload + Icmp.TYPE]!;
  if (type < Icmp6Type.ROUTER_SOLICITATION || type > Icmp6Type.NEIGHBOUR_ADVERTISEMENT) return false;
  if (hops !== SAME_LINK) return true;
  const isNobody = isUnspecified(source);
  if (type === Icmp6Type.ROUTER_SOLICITATION) {
    link.sendIp(...routerAdvertisement(link, isNobody ? ALL_NODES : source.slice(), search));
  } else if (payload + 24 <= end && type !== Icmp6Type.ROUTER_ADVERTISEMENT) {
    const target = frame.slice(payload + 8, payload + 24);
    if (type === Icmp6Type.NEIGHBOUR_ADVERTISEMENT) link.learn(target, frame.subarray(6, 12));
    else if (link.isOwn(target) && !isNobody) {
      link.sendIp(...advertisement(link.addresses, target, source.slice(), true));
    } else if (isNobody && link.isOwn(target)) {
      // Somebody is about to take our address (RFC 4862, 5.4): it is taken.
      link.sendIp(...advertisement(link.addresses, target, ALL_NODES, false));
    }
  }
  return true;
}
