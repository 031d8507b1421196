/** All TCP connections of the guests: out into the world, and in by port forwards. */

import { Errno, randomBytes, SystemError } from "@lodge/linux";
import type { Clock } from "../../clock.ts";
import type { FarEvents, FarSide } from "../../host/far-side.ts";
import type { Poller } from "../../host/poller.ts";
import { HostSocket } from "../../host/tcp-socket.ts";
import { flowKey, sameAddress } from "../../packet/address.ts";
import { fold, pseudoHeader } from "../../packet/checksum.ts";
import { Ethernet, putU16 } from "../../packet/ethernet.ts";
import type { UnreachableReason } from "../../packet/icmp.ts";
import { type IpPacket, IpProtocol, ipHeaderLength, parseIp, putIp } from "../../packet/ip.ts";
import { parseTcp, putTcp, type Segment, Tcp, TcpFlag } from "../../packet/tcp.ts";
import { finishChecksum } from "../../port.ts";
import { FramePool } from "../frame-pool.ts";
import type { GuestLink } from "../link.ts";
import type { Policy } from "../policy.ts";
import { Connection, type ConnectionOwner } from "./connection.ts";
import { type Flow, TcpOutput } from "./output.ts";
import { plus } from "./sequence.ts";

/** At the same time; of them, so many that are not yet made. A SYN beyond is lost, and comes again. */
const MOST_CONNECTIONS = 8192;
const MOST_EMBRYONIC = 512;
const NO_OPTIONS = new Uint8Array(0);

export interface TcpGatewayOptions {
  readonly link: GuestLink;
  readonly policy: Policy;
  readonly poller: Poller;
  readonly clock: Clock;
  /** A connection to the name server. */
  readonly nameServer: (events: FarEvents) => FarSide;
  /** Tells the guest that a packet of its own did not get there. */
  readonly unreachable: (packet: IpPacket, reason: UnreachableReason) => void;
}

export class TcpGateway implements ConnectionOwner {
  readonly clock: Clock;
  readonly output: TcpOutput;
  readonly #options: TcpGatewayOptions;
  readonly #connections = new Map<string, Connection>();
  #due = new Set<Connection>();
  /** SYNs that were not taken, as there were too many. */
  refused = 0;

  constructor(options: TcpGatewayOptions) {
    this.#options = options;
    this.clock = options.clock;
    this.output = new TcpOutput(options.link, new FramePool());
  }

  get connections(): Iterable<Connection> {
    return this.#connections.values();
  }

  get size(): number {
    return this.#connections.size;
  }

  mss({ guest }: Flow): number {
    return this.#options.link.mtu - ipHeaderLength(guest) - Tcp.HEADER;
  }

  firstSequence(): number {
    return randomBytes(4).readUInt32LE();
  }

  receive(packet: IpPacket, checked: boolean): void {
    const segment = parseTcp(packet, checked);
    if (segment === undefined) return;
    const key = flowKey(packet.source, segment.sourcePort, packet.destination, segment.destinationPort);
    const connection = this.#connections.get(key);
    const isSyn = (segment.flags & (TcpFlag.SYN | TcpFlag.ACK | TcpFlag.RST)) === TcpFlag.SYN;
    const isOver =
      connection === undefined || connection.state === "CLOSED" || (isSyn && connection.state === "TIME_WAIT");
    if (!isOver) {
      connection.receive(segment);
      return;
    }
    if (isSyn) this.#open(key, packet, segment);
    else this.#refuse(packet, segment);
  }

  #open(key: string, packet: IpPacket, syn: Segment): void {
    const destination = this.#options.policy.destination(packet.destination);
    if (destination.kind === "gateway") {
      this.#refuse(packet, syn);
      return;
    }
    if (destination.kind === "names" && syn.destinationPort !== 53) {
      this.#refuse(packet, syn);
      return;
    }
    if (destination.kind === "unreachable") {
      this.#options.unreachable(packet, destination.reason);
      return;
    }
    if (!this.#hasPlace()) {
      this.refused += 1;
      return;
    }
    const flow = {
      guest: packet.source.slice(),
      guestPort: syn.sourcePort,
      world: packet.destination.slice(),
      worldPort: syn.destinationPort,
    };
    // What it replaces is past, but its far side may still be taking what there was.
    const connection = new Connection(flow, this, { ...syn, data: NO_OPTIONS });
    this.#connections.set(key, connection);
    const { poller, nameServer } = this.#options;
    try {
      if (destination.kind === "names") {
        connection.attach(nameServer(connection));
        connection.opened();
      } else {
        const to = { address: destination.address, port: syn.destinationPort };
        connection.attach(HostSocket.connect(to, poller, connection));
      }
    } catch (error) {
      if (!(error instanceof SystemError)) throw error;
      connection.failed(error.errno);
    }
  }

  #hasPlace(): boolean {
    if (this.#connections.size >= MOST_CONNECTIONS) return false;
    if (this.#connections.size < MOST_EMBRYONIC) return true;
    let embryonic = 0;
    for (const connection of this.#connections.values()) if (connection.isEmbryonic) embryonic += 1;
    return embryonic < MOST_EMBRYONIC;
  }

  /**
   * Calls the guest for a stream that came in by a port forward. `from` is what the guest sees as the caller; another of the
   * caller's ports is taken while it has that one in use. False when there is no place.
   */
  call(
    from: { address: Uint8Array; port: number },
    to: { address: Uint8Array; port: number },
    accept: (events: FarEvents) => FarSide,
  ): boolean {
    if (!this.#hasPlace()) return false;
    for (let tries = 0, port = from.port; tries < 64; tries++, port = 1024 + (randomBytes(2).readUInt16LE() % 64512)) {
      const key = flowKey(to.address, to.port, from.address, port);
      if (this.#connections.has(key)) continue;
      const flow = { guest: to.address, guestPort: to.port, world: from.address, worldPort: port };
      const connection = new Connection(flow, this);
      this.#connections.set(key, connection);
      connection.attach(accept(connection));
      return true;
    }
    return false;
  }

  /** What belongs to no connection (RFC 9293, 3.10.7.1). */
  #refuse(packet: IpPacket, segment: Segment): void {
    const { flags, acknowledgement, sequence, data } = segment;
    if (flags & TcpFlag.RST) return;
    const flow = {
      guest: packet.source,
      guestPort: segment.sourcePort,
      world: packet.destination,
      worldPort: segment.destinationPort,
    };
    const length = data.length + (flags & TcpFlag.SYN ? 1 : 0) + (flags & TcpFlag.FIN ? 1 : 0);
    const head =
      flags & TcpFlag.ACK
        ? { sequence: acknowledgement, acknowledgement: 0, flags: TcpFlag.RST }
        : { sequence: 0, acknowledgement: plus(sequence, length), flags: TcpFlag.RST | TcpFlag.ACK };
    this.output.control(flow, { ...head, window: 0, options: NO_OPTIONS });
  }

  acknowledgeSoon(connection: Connection): void {
    if (this.#due.size === 0) queueMicrotask(() => this.#acknowledge());
    this.#due.add(connection);
  }

  #acknowledge(): void {
    const due = this.#due;
    this.#due = new Set();
    for (const connection of due) connection.acknowledge();
  }

  unreachable({ flow, firstHeard }: Connection, errno: number): void {
    const packet = synPacket(flow, firstHeard);
    const reason = reasonOf(errno);
    if (reason === "lost") return;
    if (reason === "refused") this.#refuse(packet, parseTcp(packet, true)!);
    else this.#options.unreachable(packet, reason);
  }

  gone(connection: Connection): void {
    const { guest, guestPort, world, worldPort } = connection.flow;
    const key = flowKey(guest, guestPort, world, worldPort);
    if (this.#connections.get(key) === connection) this.#connections.delete(key);
    this.#due.delete(connection);
  }

  /** Ends all of them; the guest is not told. */
  /** Of one guest, or of all. */
  clear(guest?: Uint8Array): void {
    for (const connection of [...this.#connections.values()]) {
      if (guest === undefined || sameAddress(connection.flow.guest, guest)) connection.drop();
    }
  }
}

/** The packet that asked for a connection, as an ICMP message quotes it. */
function synPacket({ guest, guestPort, world, worldPort }: Flow, sequence: number): IpPacket {
  const tcp = Ethernet.LENGTH + ipHeaderLength(guest);
  const frame = new Uint8Array(tcp + Tcp.HEADER);
  frame.set(guest.length === 4 ? [0x08, 0x00] : [0x86, 0xdd], Ethernet.TYPE);
  putIp(frame, Ethernet.LENGTH, { source: guest, destination: world, protocol: IpProtocol.TCP, length: Tcp.HEADER });
  const head = { sequence, acknowledgement: 0, flags: TcpFlag.SYN, window: 0, options: NO_OPTIONS };
  putTcp(frame, tcp, { sourcePort: guestPort, destinationPort: worldPort, ...head });
  putU16(frame, tcp + Tcp.CHECKSUM, fold(pseudoHeader(guest, world, IpProtocol.TCP, Tcp.HEADER)));
  finishChecksum(frame, { start: tcp, offset: Tcp.CHECKSUM });
  return parseIp(frame)!;
}

/** What the guest is told of a connect that failed; `lost`: nothing, so that it tries again. */
function reasonOf(errno: number): UnreachableReason | "refused" | "lost" {
  switch (errno) {
    case Errno.ENETUNREACH:
    case Errno.EADDRNOTAVAIL:
    case Errno.EAFNOSUPPORT:
      return "network";
    case Errno.EHOSTUNREACH:
    case Errno.ETIMEDOUT:
      return "host";
    case Errno.EACCES:
    case Errno.EPERM:
      return "prohibited";
    case Errno.EMFILE:
    case Errno.ENFILE:
    case Errno.ENOBUFS:
    case Errno.ENOMEM:
      return "lost";
    default:
      return "refused";
  }
}
