/**
 * Which addresses are a guest's where nobody else's are known, as on the host's bridge: those that its user said; or that a DHCP
 * server was seen to give it; or else, of IPv4, the first that it used. Where it was said who the DHCP servers are, only their
 * word counts: a neighbour could give the guest somebody else's address otherwise.
 */

import { acknowledgedAddress } from "../nat/dhcp/dhcp.ts";
import { addressKey, prefixes, sameAddress } from "../packet/address.ts";
import { IpProtocol, parseIp } from "../packet/ip.ts";
import { parseUdp } from "../packet/udp.ts";
import { AddressBook } from "./addresses.ts";

const DHCP_SERVER = 67;
const DHCP_CLIENT = 68;
/** A machine that moves between networks gets some; what it had long ago it has no more. */
const MOST_GIVEN = 8;
const [LINK_LOCAL6] = prefixes("fe80::/10");

export interface CardAddressesOptions {
  readonly mac: Uint8Array;
  /** The guest's addresses. Default: they are learnt. */
  readonly addresses?: readonly Uint8Array[];
  /** Others', which it never has. */
  readonly reserved?: readonly Uint8Array[];
  /** Whose DHCP answers count. Default: everybody's. */
  readonly dhcpServers?: readonly Uint8Array[];
}

export class CardAddresses {
  readonly #mac: Uint8Array;
  /** Of both families; a family of which none was said is learnt. */
  readonly #said: readonly Uint8Array[];
  readonly #given = new Map<string, Uint8Array>();
  readonly #servers: readonly Uint8Array[] | undefined;
  #first: Uint8Array | undefined;
  readonly #book: AddressBook<CardAddresses>;

  constructor({ mac, addresses: said = [], reserved = [], dhcpServers }: CardAddressesOptions) {
    this.#mac = mac;
    this.#said = said;
    this.#servers = dhcpServers;
    // Its own addresses of IPv6 it makes itself, one after the other; where some were said, only the link's.
    const networks = said.some((one) => one.length === 16) ? [LINK_LOCAL6!] : undefined;
    this.#book = new AddressBook<CardAddresses>({ reserved, networks, leasedTo: () => undefined });
  }

  mayUse(address: Uint8Array): boolean {
    if (this.#said.some((one) => sameAddress(one, address))) return true;
    if (address.length === 16) return this.#book.mayUse(this, address);
    if (this.#said.some((one) => one.length === 4)) return false;
    if (this.#given.size > 0) return this.#given.has(addressKey(address));
    this.#first ??= this.#book.mayUse(this, address) ? address.slice() : undefined;
    return this.#first !== undefined && sameAddress(this.#first, address);
  }

  /** A frame that is for the guest. */
  heard(frame: Uint8Array): void {
    // UDP of IPv4 without options, which is what DHCP servers send.
    if (frame[12] !== 8 || frame[13] !== 0 || frame[23] !== IpProtocol.UDP) return;
    const packet = parseIp(frame);
    const datagram = packet && packet.fragment === undefined ? parseUdp(packet, true) : undefined;
    if (datagram?.sourcePort !== DHCP_SERVER || datagram.destinationPort !== DHCP_CLIENT) return;
    if (this.#servers?.some((server) => sameAddress(server, packet!.source)) === false) return;
    const address = acknowledgedAddress(datagram.data, this.#mac);
    if (address === undefined) return;
    this.#given.delete(addressKey(address));
    this.#given.set(addressKey(address), address);
    if (this.#given.size > MOST_GIVEN) this.#given.delete(this.#given.keys().next().value!);
  }
}
