/**
 * Datagrams of the guest. Each of its ports has one socket of the host's for all that it talks to (RFC 4787, REQ-1), which
 * lets in what comes from addresses that the guest has sent to (REQ-8).
 */

import { type DatagramError, type Endpoint, Errno, SystemError } from "@lodge/linux";
import type { Clock } from "../clock.ts";
import { DatagramSocket } from "../host/datagram-socket.ts";
import type { Poller } from "../host/poller.ts";
import { addressKey, flowKey } from "../packet/address.ts";
import { type IpPacket, IpProtocol } from "../packet/ip.ts";
import { type Datagram, parseUdp, udpPayload } from "../packet/udp.ts";
import { type IcmpGateway, packetOf } from "./icmp.ts";
import { IdleMap } from "./idle.ts";
import type { GuestLink } from "./link.ts";
import type { Policy } from "./policy.ts";

/** RFC 4787, REQ-5: two minutes at least, but for ports whose use is known. */
const IDLE_MS = 180_000;
const IDLE_NAMES_MS = 20_000;
const MOST_PORTS = 1024;
/** Addresses that one port is remembered to have sent to. */
const MOST_PEERS = 256;
const ANY = { 4: new Uint8Array(4), 6: new Uint8Array(16) } as const;

export interface UdpOptions {
  readonly link: GuestLink;
  readonly policy: Policy;
  readonly poller: Poller;
  readonly clock: Clock;
  readonly icmp: IcmpGateway;
  /** What is for one of our own services; false if there is none. */
  readonly service: (packet: IpPacket, datagram: Datagram) => boolean;
}

class Port implements Disposable {
  readonly socket: DatagramSocket;
  /** What the guest calls the addresses that it sent to: the host's loopback address has another name there. */
  readonly peers: Map<string, Uint8Array>;

  constructor(socket: DatagramSocket, peers: Map<string, Uint8Array>) {
    this.socket = socket;
    this.peers = peers;
  }

  [Symbol.dispose](): void {
    this.socket[Symbol.dispose]();
  }
}

/** Somebody who came in by a port forward, and how to answer. */
interface Caller extends Disposable {
  readonly answer: (data: Uint8Array) => void;
}

export class UdpGateway implements Disposable {
  readonly #options: UdpOptions;
  readonly #ports: IdleMap<Port>;
  readonly #callers: IdleMap<Caller>;

  constructor(options: UdpOptions) {
    this.#options = options;
    this.#ports = new IdleMap(options.clock, MOST_PORTS);
    this.#callers = new IdleMap(options.clock, MOST_PORTS);
  }

  get size(): number {
    return this.#ports.size + this.#callers.size;
  }

  receive(packet: IpPacket, checked: boolean): void {
    const datagram = parseUdp(packet, checked);
    if (datagram === undefined) return;
    const { policy, icmp, service } = this.#options;
    if (service(packet, datagram)) return;
    const { source, destination } = packet;
    const caller = this.#callers.use(
      flowKey(source, datagram.sourcePort, destination, datagram.destinationPort),
      IDLE_MS,
    );
    if (caller !== undefined) {
      caller.answer(datagram.data);
      return;
    }
    const to = policy.destination(destination);
    if (to.kind === "world") this.#send(packet, datagram, to.address);
    else icmp.unreachable(packet, to.kind === "unreachable" ? to.reason : "port");
  }

  #send(packet: IpPacket, { sourcePort, destinationPort, data }: Datagram, address: Uint8Array): void {
    const { icmp } = this.#options;
    const key = `${addressKey(packet.source)}${sourcePort}`;
    const idle = destinationPort === 53 ? IDLE_NAMES_MS : IDLE_MS;
    let port = this.#ports.use(key, idle);
    if (port === undefined) {
      try {
        port = this.#open(packet, sourcePort);
      } catch (error) {
        if (!(error instanceof SystemError)) throw error;
        icmp.unreachable(packet, error.errno === Errno.EAFNOSUPPORT ? "network" : "host");
        return;
      }
      this.#ports.add(key, port, idle);
    }
    if (port.peers.size >= MOST_PEERS) port.peers.delete(port.peers.keys().next().value!);
    port.peers.set(addressKey(address), packet.destination.slice());
    const result = -port.socket.send(data, { address, port: destinationPort });
    if (result === Errno.ENETUNREACH) icmp.unreachable(packet, "network");
    else if (result === Errno.EACCES || result === Errno.EPERM) icmp.unreachable(packet, "prohibited");
  }

  #open({ source, version }: IpPacket, sourcePort: number): Port {
    const guest = source.slice();
    const peers = new Map<string, Uint8Array>();
    const events = {
      received: (data: Uint8Array, from: Endpoint) => {
        const seen = peers.get(addressKey(from.address));
        if (seen !== undefined) this.#deliver(seen, from.port, guest, sourcePort, data);
      },
      failed: (error: DatagramError, sent: Uint8Array) => {
        const seen = error.to && peers.get(addressKey(error.to.address));
        if (seen === undefined) return;
        const payload = udpPayload(guest, sourcePort, seen, error.to!.port, sent);
        this.#options.icmp.passOn(error, packetOf(guest, seen, IpProtocol.UDP, payload));
      },
    };
    return new Port(new DatagramSocket({ address: ANY[version], port: 0 }, this.#options.poller, events), peers);
  }

  #deliver(from: Uint8Array, fromPort: number, to: Uint8Array, port: number, data: Uint8Array): void {
    const header = { source: from, destination: to, protocol: IpProtocol.UDP };
    this.#options.link.sendIp(header, udpPayload(from, fromPort, to, port, data));
  }

  /** A datagram that came in by a port forward; `from` is whom the guest answers. */
  call(from: Endpoint, to: Endpoint, data: Uint8Array, answer: (data: Uint8Array) => void): void {
    const key = flowKey(to.address, to.port, from.address, from.port);
    if (this.#callers.use(key, IDLE_MS) === undefined) {
      this.#callers.add(key, { answer, [Symbol.dispose]: () => {} }, IDLE_MS);
    }
    this.#deliver(from.address, from.port, to.address, to.port, data);
  }

  clear(): void {
    this.#ports.clear();
    this.#callers.clear();
  }

  [Symbol.dispose](): void {
    this.#ports[Symbol.dispose]();
    this.#callers[Symbol.dispose]();
  }
}
