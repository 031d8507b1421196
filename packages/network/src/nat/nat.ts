/**
 * A network for a guest without any privilege: this side of the wire is a router with an IP stack of its own, the other side
 * are the host's sockets. docs/network.md has the picture.
 */

import { Deadline, systemClock } from "../clock.ts";
import { Poller } from "../host/poller.ts";
import { isUnspecified, sameAddress } from "../packet/address.ts";
import { Ethernet, EtherType, parseArp, u16 } from "../packet/ethernet.ts";
import { type IpPacket, IpProtocol, parseIp } from "../packet/ip.ts";
import { type Datagram, udpPayload } from "../packet/udp.ts";
import type { GuestSide, Offload, PacketPort } from "../port.ts";
import { DhcpServer } from "./dhcp/dhcp.ts";
import { Dhcpv6Server } from "./dhcp/dhcpv6.ts";
import { type Lease, Leases } from "./dhcp/leases.ts";
import { encodeNames } from "./dhcp/options.ts";
import { reverseName } from "./dns/message.ts";
import { NameServer } from "./dns/server.ts";
import { hostResolvers } from "./dns/upstream.ts";
import { Forwards } from "./forwards.ts";
import { Fragments } from "./fragments.ts";
import { IcmpGateway } from "./icmp.ts";
import { type Addresses, GuestLink } from "./link.ts";
import { ALL_NODES, ROUTER_LIFE_S, routerAdvertisement } from "./neighbour-discovery.ts";
import { addressesOf, checkMtu, type NatOptions } from "./options.ts";
import { Policy } from "./policy.ts";
import { TcpGateway } from "./tcp/gateway.ts";
import { UdpGateway } from "./udp.ts";

const Ports = { NAMES: 53, DHCP_SERVER: 67, DHCP_CLIENT: 68, DHCPV6_CLIENT: 546, DHCPV6_SERVER: 547 } as const;

/** What a NAT has at the moment, for those who look. */
export interface NatStatus {
  readonly framesFromGuest: number;
  readonly bytesFromGuest: number;
  readonly tcp: number;
  readonly udp: number;
  readonly pings: number;
  readonly fragments: number;
  /** Descriptors that the event loop waits for. */
  readonly sockets: number;
  /** Frames for the guest that it had no room for. */
  readonly lost: number;
  readonly refusedSyns: number;
  /** Bytes kept for connections. */
  readonly heldBytes: number;
}

export class Nat implements PacketPort, Disposable {
  readonly takesOffloads = true;
  readonly givesOffloads = true;
  readonly hasLargeDatagrams = true;
  readonly mtu: number;
  readonly forwards: Forwards;
  readonly #poller: Poller;
  readonly #link: GuestLink;
  readonly #leases: Leases;
  readonly #fragments: Fragments;
  readonly #icmp: IcmpGateway;
  readonly #udp: UdpGateway;
  readonly #tcp: TcpGateway;
  readonly #names: NameServer;
  readonly #dhcp: DhcpServer;
  readonly #dhcpv6: Dhcpv6Server;
  readonly #advertising: Deadline;
  readonly #resources: DisposableStack;
  #search: Uint8Array = new Uint8Array(0);
  #frames = 0;
  #bytes = 0;

  /** Throws a `NetworkError` for what cannot be, such as a forward of a port that is taken; nothing is left behind then. */
  constructor(options: NatOptions = {}) {
    const {
      restrict = false,
      loopback = false,
      clock = systemClock,
      hostName,
      resolvers = hostResolvers,
      stations,
    } = options;
    const addresses = addressesOf(options);
    this.mtu = checkMtu(options.mtu);
    using undo = new DisposableStack();
    const poller = undo.use(new Poller());
    this.#poller = poller;
    const link = new GuestLink(addresses, this.mtu);
    this.#link = link;
    this.#leases = new Leases(addresses.network, addresses.network6, stations);
    const { router } = options;
    const policy = new Policy(link, { restrict: restrict || router !== undefined, loopback });
    const nameFor = (lease: Lease) =>
      stations?.nameOf(lease.mac) ?? (lease.index === 0 ? hostName : undefined) ?? lease.name;
    this.#names = undo.use(
      new NameServer({
        poller,
        clock,
        resolvers,
        restrict,
        lookUp: (name) => {
          if (name === "gateway") return [addresses.gateway, addresses.gateway6];
          const lease = [...this.#leases.all].find((one) => nameFor(one) === name);
          return lease && [lease.address, ...(lease.has6 ? [lease.address6] : [])];
        },
        nameOf: (reverse) => {
          if ([addresses.gateway, addresses.gateway6].some((own) => reverseName(own) === reverse)) return "gateway";
          const is = ({ address, address6 }: Lease) => [address, address6].some((own) => reverseName(own) === reverse);
          const lease = [...this.#leases.all].find(is);
          return lease && nameFor(lease);
        },
      }),
    );
    const search = () => this.#names.search;
    this.#dhcp = new DhcpServer({
      addresses,
      leases: this.#leases,
      mtu: this.mtu,
      search,
      nameFor,
      ...(router && { router }),
    });
    this.#dhcpv6 = new Dhcpv6Server(addresses, this.#leases, search);
    this.#fragments = new Fragments(clock);
    this.#icmp = undo.use(new IcmpGateway({ link, policy, poller, clock, search: () => this.#announce() }));
    this.#udp = undo.use(
      new UdpGateway({ link, policy, poller, clock, icmp: this.#icmp, service: (...what) => this.#serve(...what) }),
    );
    this.#tcp = new TcpGateway({
      link,
      policy,
      poller,
      clock,
      nameServer: (events) => this.#names.accept(events),
      unreachable: (packet, reason) => this.#icmp.unreachable(packet, reason),
    });
    undo.defer(() => this.#tcp.clear());
    const guest = (family: 4 | 6) => {
      const lease = this.#leases.all[Symbol.iterator]().next().value ?? this.#leases.first;
      return family === 4 ? lease.address : lease.address6;
    };
    this.forwards = undo.use(new Forwards({ link, poller, tcp: this.#tcp, udp: this.#udp, guest }));
    for (const forward of options.forwards ?? []) this.forwards.add(forward);
    this.#advertising = undo.use(new Deadline(clock, () => this.#advertise()));
    this.#resources = undo.move();
  }

  connect(guest: GuestSide): void {
    this.#link.wire.connect(guest);
  }

  room(): void {
    this.#link.wire.room();
  }

  /** A guest is gone, of those that there are: what was under way with it is over. */
  left(mac: Uint8Array): void {
    for (const address of this.#link.addressesOf(mac)) {
      this.#tcp.clear(address);
      this.#link.forget(address);
    }
  }

  /** Connections of a guest that begins anew are over; its address and its port forwards stay. */
  reset(): void {
    this.#tcp.clear();
    this.#udp.clear();
    this.#icmp.clear();
    this.#link.clear();
  }

  transmit(frame: Uint8Array, offload?: Offload): void {
    if (frame.length < Ethernet.LENGTH) return;
    this.#frames += 1;
    this.#bytes += frame.length;
    const { mac } = this.#link.addresses;
    // What is for another station is none of ours, but for groups.
    if (!(frame[0]! & 1) && !sameAddress(frame.subarray(0, 6), mac)) return;
    if (u16(frame, Ethernet.TYPE) === EtherType.ARP) {
      const arp = parseArp(frame);
      if (arp !== undefined) this.#link.receiveArp(arp);
      return;
    }
    const packet = parseIp(frame);
    if (packet === undefined) return;
    const pending = offload?.checksum;
    this.#receive(pending === undefined ? packet : { ...packet, pending });
  }

  #receive(piece: IpPacket): void {
    const { source, pending } = piece;
    const isNobody = isUnspecified(source);
    // A guest has an address of its network, or none yet.
    if (!isNobody && !this.#link.isGuest(source)) return;
    if (!isNobody) this.#link.learn(source, piece.frame.subarray(Ethernet.SOURCE, Ethernet.SOURCE + 6));
    // No driver leaves the checksum of a piece to be made: it is one of the whole.
    if (piece.fragment !== undefined && pending !== undefined) return;
    const packet = this.#fragments.add(piece);
    if (packet === undefined) return;
    const isChecked = pending !== undefined;
    switch (packet.protocol) {
      case IpProtocol.UDP:
        this.#udp.receive(packet, isChecked);
        return;
      case IpProtocol.TCP:
        // RFC 9293, 3.9.2.3: no connection is with many.
        if (!isNobody && !isGroup(packet.destination)) this.#tcp.receive(packet, isChecked);
        return;
      case IpProtocol.ICMP:
        if (packet.version === 4 && !isNobody) this.#icmp.receive(packet);
        return;
      case IpProtocol.ICMPV6:
        if (packet.version === 6) this.#icmp.receive(packet);
        return;
      default:
    }
  }

  /** Our own services: name server, DHCP and DHCPv6. */
  #serve(packet: IpPacket, { sourcePort, destinationPort, data }: Datagram): boolean {
    const { names, names6, gateway, gatewayLocal6 } = this.#link.addresses;
    const { source, destination, version, frame } = packet;
    const isNames = sameAddress(destination, names) || sameAddress(destination, names6);
    if (destinationPort === Ports.NAMES && isNames) {
      const [from, to] = [destination.slice(), source.slice()];
      this.#names.receive(data, (reply) => this.#sendUdp(from, Ports.NAMES, to, sourcePort, reply));
      return true;
    }
    if (version === 4 && destinationPort === Ports.DHCP_SERVER) {
      const reply = this.#dhcp.receive(data);
      if (reply === undefined) return true;
      // It has not answered for its address yet.
      this.#link.learn(reply.to, frame.subarray(Ethernet.SOURCE, Ethernet.SOURCE + 6));
      this.#sendUdp(gateway, Ports.DHCP_SERVER, reply.to, Ports.DHCP_CLIENT, reply.message);
      return true;
    }
    if (version === 6 && destinationPort === Ports.DHCPV6_SERVER) {
      const reply = this.#dhcpv6.receive(data, frame.subarray(Ethernet.SOURCE, Ethernet.SOURCE + 6));
      if (reply !== undefined) {
        this.#sendUdp(gatewayLocal6, Ports.DHCPV6_SERVER, source.slice(), Ports.DHCPV6_CLIENT, reply);
      }
      return true;
    }
    return isUnspecified(source);
  }

  #sendUdp(source: Uint8Array, sourcePort: number, destination: Uint8Array, port: number, data: Uint8Array): void {
    const header = { source, destination, protocol: IpProtocol.UDP };
    this.#link.sendIp(header, udpPayload(source, sourcePort, destination, port, data));
  }

  /** The search domains of a router's advertisement; it is given, so another is due before it is worth nothing. */
  #announce(): Uint8Array {
    this.#search = encodeNames(this.#names.search);
    if (!this.#advertising.isSet) this.#advertising.set((ROUTER_LIFE_S / 3) * 1000);
    return this.#search;
  }

  #advertise(): void {
    this.#link.sendIp(...routerAdvertisement(this.#link, ALL_NODES, this.#announce()));
  }

  get addresses(): Addresses {
    return this.#link.addresses;
  }

  /** The addresses that were given. */
  get leases(): Iterable<Lease> {
    return this.#leases.all;
  }

  get status(): NatStatus {
    let heldBytes = 0;
    for (const connection of this.#tcp.connections) heldBytes += connection.heldBytes;
    return {
      framesFromGuest: this.#frames,
      bytesFromGuest: this.#bytes,
      tcp: this.#tcp.size,
      udp: this.#udp.size,
      pings: this.#icmp.size,
      fragments: this.#fragments.size,
      sockets: this.#poller.size,
      lost: this.#link.wire.lost,
      refusedSyns: this.#tcp.refused,
      heldBytes,
    };
  }

  [Symbol.dispose](): void {
    this.#resources[Symbol.dispose]();
    this.#link.clear();
  }
}

function isGroup(address: Uint8Array): boolean {
  return address.length === 4 ? address[0]! >= 224 : address[0] === 0xff;
}
