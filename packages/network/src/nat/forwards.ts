/** Ports of the host that lead into a guest: listeners that come and go while the machine runs. */

import { rmSync } from "node:fs";
import {
  AddressFamily,
  bindSocket,
  close,
  type Endpoint,
  Errno,
  encodeEndpoint,
  encodeUnixPath,
  internetSocket,
  listen,
  localEndpoint,
  peerEndpoint,
  SocketLevel,
  SocketOption,
  SocketType,
  SystemError,
  setSocketOption,
  socket,
} from "@lodge/linux";
import { NetworkError } from "../errors.ts";
import { removeAbandonedSocket } from "../host/abandoned-socket.ts";
import { acceptAt } from "../host/accepting.ts";
import { DatagramSocket } from "../host/datagram-socket.ts";
import type { Poller } from "../host/poller.ts";
import { HostSocket } from "../host/tcp-socket.ts";
import { formatAddress, isWithin, prefixes } from "../packet/address.ts";
import { type Forward, formatForward } from "./forward.ts";
import type { GuestLink } from "./link.ts";
import type { TcpGateway } from "./tcp/gateway.ts";
import type { UdpGateway } from "./udp.ts";

const BACKLOG = 128;
const LOOPBACK = prefixes("127.0.0.0/8", "::1/128");

export interface ForwardsOptions {
  readonly link: GuestLink;
  readonly poller: Poller;
  readonly tcp: TcpGateway;
  readonly udp: UdpGateway;
  /** The guest, where a forward does not say which. */
  readonly guest: (family: 4 | 6) => Uint8Array;
}

interface Active {
  readonly forward: Forward;
  readonly listeners: readonly Disposable[];
  /** Where it listens: what the kernel chose for port 0, too. */
  readonly ports: readonly number[];
}

export class Forwards implements Disposable {
  readonly #options: ForwardsOptions;
  readonly #active = new Map<string, Active>();

  constructor(options: ForwardsOptions) {
    this.#options = options;
  }

  /** What is forwarded now, and the ports of the host. */
  get list(): readonly { forward: Forward; ports: readonly number[] }[] {
    return [...this.#active.values()].map(({ forward, ports }) => ({ forward, ports }));
  }

  /** Listens; returns the ports. All of a range, or nothing. */
  add(forward: Forward): readonly number[] {
    const name = formatForward(forward);
    if (this.#active.has(name)) throw new NetworkError("NETWORK_CONFIG", `${name} is forwarded already`);
    using undo = new DisposableStack();
    const ports: number[] = [];
    const listeners: Disposable[] = [];
    for (let index = 0; index < forward.count; index++) {
      try {
        const { listener, port } = this.#listen(forward, index);
        listeners.push(undo.use(listener));
        ports.push(port);
      } catch (error) {
        throw refusal(error, forward, index);
      }
    }
    undo.move();
    this.#active.set(name, { forward, listeners, ports });
    return ports;
  }

  /** Listens no more; connections that were made go on. False if there is none of this kind. */
  remove(forward: Forward): boolean {
    const name = formatForward(forward);
    const active = this.#active.get(name);
    for (const listener of active?.listeners ?? []) listener[Symbol.dispose]();
    return this.#active.delete(name);
  }

  #listen(forward: Forward, index: number): { listener: Disposable; port: number } {
    const { host, protocol } = forward;
    if ("path" in host) return { listener: this.#listenUnix(host.path, forward), port: 0 };
    const local = { address: host.address, port: host.port === 0 ? 0 : host.port + index };
    if (protocol === "udp") return this.#listenUdp(local, forward, index);
    const fd = internetSocket(local.address, SocketType.STREAM);
    try {
      setSocketOption(fd, SocketLevel.SOL_SOCKET, SocketOption.SO_REUSEADDR, 1);
      if (local.address.length === 16) setSocketOption(fd, SocketLevel.IPPROTO_IPV6, SocketOption.IPV6_V6ONLY, 1);
      bindSocket(fd, encodeEndpoint(local));
      listen(fd, BACKLOG);
      return { listener: this.#accepting(fd, forward, index), port: localEndpoint(fd)!.port };
    } catch (error) {
      close(fd);
      throw error;
    }
  }

  #listenUnix(path: string, forward: Forward): Disposable {
    const fd = socket(AddressFamily.UNIX, SocketType.STREAM);
    try {
      const address = encodeUnixPath(path);
      removeAbandonedSocket(path);
      bindSocket(fd, address);
      listen(fd, BACKLOG);
    } catch (error) {
      close(fd);
      throw error;
    }
    const accepting = this.#accepting(fd, forward, 0);
    return {
      [Symbol.dispose]: () => {
        accepting[Symbol.dispose]();
        rmSync(path, { force: true });
      },
    };
  }

  /** Whoever waits at a listening socket is led into the guest. */
  #accepting(fd: number, forward: Forward, index: number): Disposable {
    return acceptAt(fd, this.#options.poller, (accepted) => this.#call(accepted, forward, index));
  }

  #call(fd: number, forward: Forward, index: number): void {
    const to = this.#guestEnd(forward, index);
    const from = this.#callerSeen(peerEndpoint(fd), to);
    const called = this.#options.tcp.call(from, to, (events) => HostSocket.accepted(fd, this.#options.poller, events));
    if (!called) close(fd);
  }

  #guestEnd({ host, guest }: Forward, index: number): Endpoint {
    const family = "address" in host && host.address.length === 16 ? 6 : 4;
    return { address: guest.address ?? this.#options.guest(family), port: guest.port + index };
  }

  /** Whom the guest takes for the caller: himself where it can answer him by that address, or the gateway. */
  #callerSeen(peer: Endpoint | undefined, { address: guest }: Endpoint): Endpoint {
    const { addresses } = this.#options.link;
    const gateway = guest.length === 4 ? addresses.gateway : addresses.gateway6;
    if (peer === undefined) return { address: gateway, port: 1024 };
    const { address, port } = peer;
    const isHidden =
      address.length !== guest.length ||
      [...LOOPBACK, addresses.network, addresses.network6].some((prefix) => isWithin(address, prefix));
    return { address: isHidden ? gateway : address, port };
  }

  #listenUdp(local: Endpoint, forward: Forward, index: number): { listener: Disposable; port: number } {
    const listener: DatagramSocket = new DatagramSocket(local, this.#options.poller, {
      received: (data, peer) => {
        const to = this.#guestEnd(forward, index);
        this.#options.udp.call(this.#callerSeen(peer, to), to, data, (answer) => listener.send(answer, peer));
      },
    });
    return { listener, port: listener.port };
  }

  [Symbol.dispose](): void {
    for (const { forward } of [...this.#active.values()]) this.remove(forward);
  }
}

function refusal(error: unknown, forward: Forward, index: number): unknown {
  if (!(error instanceof SystemError) && !(error instanceof RangeError)) return error;
  const { host } = forward;
  const where = "path" in host ? host.path : `${formatAddress(host.address)} port ${host.port + index}`;
  const why = (): string => {
    if (error instanceof RangeError) return error.message;
    switch (error.errno) {
      case Errno.EADDRINUSE:
        return "path" in host
          ? "the socket exists already; remove it, or name another"
          : "the port is taken; name another, or 0 for any";
      case Errno.EACCES:
        return "path" in host
          ? "no permission to make it there"
          : "no permission; ports below 1024 need CAP_NET_BIND_SERVICE";
      case Errno.EADDRNOTAVAIL:
        return "this host does not have that address";
      default:
        return error.message;
    }
  };
  return new NetworkError("NETWORK_HOST", `cannot forward ${where}: ${why()}`, { cause: error });
}
