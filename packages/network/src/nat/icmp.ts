/** Echo requests of the guest: for us, answered; for the world, sent by a socket that needs no privileges (icmp(7)). */

import { type DatagramError, ErrorOrigin, Protocol, SystemError } from "@lodge/linux";
import type { Clock } from "../clock.ts";
import { DatagramSocket } from "../host/datagram-socket.ts";
import type { Poller } from "../host/poller.ts";
import { addressKey } from "../packet/address.ts";
import { Ethernet, putU16, u16 } from "../packet/ethernet.ts";
import {
  finishIcmp,
  Icmp,
  Icmp6Type,
  IcmpType,
  icmpError,
  isWholeIcmp,
  Unreachable,
  type UnreachableReason,
} from "../packet/icmp.ts";
import { type IpPacket, IpProtocol, ipHeaderLength, putIp } from "../packet/ip.ts";
import { finishChecksum } from "../port.ts";
import { IdleMap } from "./idle.ts";
import type { GuestLink } from "./link.ts";
import { receiveDiscovery } from "./neighbour-discovery.ts";
import type { Policy } from "./policy.ts";

const IDLE_MS = 30_000;
const MOST_PINGS = 64;
const ANY = { 4: new Uint8Array(4), 6: new Uint8Array(16) } as const;

export interface IcmpOptions {
  readonly link: GuestLink;
  readonly policy: Policy;
  readonly poller: Poller;
  readonly clock: Clock;
  /** Search domains, as router advertisements have them. */
  readonly search: () => Uint8Array;
}

export class IcmpGateway implements Disposable {
  readonly #options: IcmpOptions;
  readonly #pings: IdleMap<DatagramSocket>;

  constructor(options: IcmpOptions) {
    this.#options = options;
    this.#pings = new IdleMap(options.clock, MOST_PINGS);
  }

  get size(): number {
    return this.#pings.size;
  }

  receive(packet: IpPacket): void {
    if (!isWholeIcmp(packet)) return;
    const { version, frame, payload, end, destination } = packet;
    const { link, policy, search } = this.#options;
    if (version === 6 && receiveDiscovery(link, packet, search())) return;
    if (frame[payload] !== (version === 4 ? IcmpType.ECHO : Icmp6Type.ECHO)) return;
    if (link.isOwn(destination)) {
      this.#answer(packet, frame.slice(payload, end));
      return;
    }
    const to = policy.destination(destination);
    if (to.kind === "unreachable") this.unreachable(packet, to.reason);
    else if (to.kind === "world") this.#forward(packet, to.address);
  }

  #answer({ version, source, destination }: IpPacket, message: Uint8Array): void {
    message[Icmp.TYPE] = version === 4 ? IcmpType.ECHO_REPLY : Icmp6Type.ECHO_REPLY;
    this.#send(destination, source, message);
  }

  #send(source: Uint8Array, destination: Uint8Array, message: Uint8Array): void {
    const protocol = source.length === 4 ? IpProtocol.ICMP : IpProtocol.ICMPV6;
    this.#options.link.sendIp({ source, destination, protocol }, finishIcmp(message, source, destination));
  }

  #forward(packet: IpPacket, to: Uint8Array): void {
    const { frame, payload, end, version } = packet;
    const id = u16(frame, payload + Icmp.ID);
    const guest = packet.source.slice();
    const seen = packet.destination.slice();
    const key = `${addressKey(guest)}${id}/${addressKey(seen)}`;
    let socket = this.#pings.use(key, IDLE_MS);
    if (socket === undefined) {
      const protocol = version === 4 ? Protocol.ICMP : Protocol.ICMPV6;
      const events = {
        received: (data: Uint8Array) => {
          if (data.length < Icmp.HEADER) return;
          const reply = data.slice();
          // The kernel has numbered it by itself.
          putU16(reply, Icmp.ID, id);
          this.#send(seen, guest, reply);
        },
        failed: (error: DatagramError, sent: Uint8Array) => {
          const echo = sent.slice();
          if (echo.length >= Icmp.HEADER) putU16(echo, Icmp.ID, id);
          this.passOn(error, packetOf(guest, seen, protocol, echo));
        },
      };
      try {
        socket = new DatagramSocket({ address: ANY[version], port: 0 }, this.#options.poller, events, protocol);
      } catch (error) {
        if (!(error instanceof SystemError)) throw error;
        // The host lets this user send none: net.ipv4.ping_group_range.
        this.unreachable(packet, "prohibited");
        return;
      }
      this.#pings.add(key, socket, IDLE_MS);
    }
    const result = socket.send(frame.subarray(payload, end), { address: to, port: 0 });
    if (result < 0) this.unreachable(packet, "network");
  }

  /** Tells the guest what the network told the host of a datagram. */
  passOn({ origin, type, code, info, errno }: DatagramError, about: IpPacket): void {
    if (origin === (about.version === 4 ? ErrorOrigin.ICMP : ErrorOrigin.ICMP6)) this.#tell(about, type, code, info);
    else if (errno > 0) this.unreachable(about, "host");
  }

  unreachable(about: IpPacket, reason: UnreachableReason): void {
    const { four, six } = Unreachable[reason];
    if (about.version === 4) this.#tell(about, IcmpType.UNREACHABLE, four);
    else this.#tell(about, Icmp6Type.UNREACHABLE, six);
  }

  #tell(about: IpPacket, type: number, code: number, info = 0): void {
    const { link } = this.#options;
    // RFC 1122, 3.2.2: never about what was for many.
    const isMany = about.version === 4 ? about.destination[0]! >= 224 : about.destination[0] === 0xff;
    if (isMany || !link.isGuest(about.source)) return;
    // What is quoted is as it would have gone on.
    if (about.pending !== undefined) finishChecksum(about.frame.subarray(0, about.end), about.pending);
    const { gateway, gateway6 } = link.addresses;
    const [source, destination] = [about.version === 4 ? gateway : gateway6, about.source.slice()];
    this.#send(source, destination, icmpError(about, type, code, info));
  }

  clear(): void {
    this.#pings.clear();
  }

  [Symbol.dispose](): void {
    this.#pings[Symbol.dispose]();
  }
}

/** A packet that the guest sent, made again for its quotation. */
export function packetOf(source: Uint8Array, destination: Uint8Array, protocol: number, payload: Uint8Array): IpPacket {
  const start = Ethernet.LENGTH;
  const at = start + ipHeaderLength(source);
  const frame = new Uint8Array(at + payload.length);
  putIp(frame, start, { source, destination, protocol, length: payload.length });
  frame.set(payload, at);
  const version = source.length === 4 ? 4 : 6;
  const end = frame.length;
  return { version, source, destination, protocol, hops: 64, frame, start, payload: at, end, fragment: undefined };
}
