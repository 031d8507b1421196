/** A port forward as people write it, in QEMU's way: `tcp:127.0.0.1:8080-:80`. */

import { NetworkError } from "../errors.ts";
import { formatAddress, parseAddress } from "../packet/address.ts";

export interface Forward {
  readonly protocol: "tcp" | "udp";
  /** Where the host listens. Port 0: any that is free. */
  readonly host: { readonly address: Uint8Array; readonly port: number } | { readonly path: string };
  /** Where it leads; without an address: to the guest. */
  readonly guest: { readonly address?: Uint8Array; readonly port: number };
  /** So many ports, one after the other on both sides. */
  readonly count: number;
}

const LOOPBACK = Uint8Array.of(127, 0, 0, 1);

/**
 * Reads one: `tcp|udp:[ADDRESS]:PORT[..LAST]-[ADDRESS]:PORT` or `unix:PATH-[ADDRESS]:PORT`. An address of IPv6 stands in
 * brackets; the host's is the loopback address where there is none.
 */
export function parseForward(text: string): Forward {
  const refuse = (why: string): never => {
    throw new NetworkError("NETWORK_CONFIG", `forward ${text}: ${why}`);
  };
  const found = /^(tcp|udp|unix):(.+)-(\[[^\]]*\]|[^:[\]-]*):(\d+)$/.exec(text);
  if (found === null) return refuse("write tcp:127.0.0.1:8080-:80, udp::5353-:53 or unix:/run/web.sock-:80");
  const [, kind, from = "", guestAddress = "", guestPort = ""] = found;
  const address = (written: string): Uint8Array | undefined => {
    if (written === "") return undefined;
    return parseAddress(written.replace(/^\[(.*)\]$/, "$1")) ?? refuse(`${written} is no address of IPv4 or IPv6`);
  };
  const port = (written: string, least: number): number => {
    const value = Number(written);
    return value >= least && value <= 65535 ? value : refuse(`${written} is no port from ${least} to 65535`);
  };
  const target = address(guestAddress);
  const guest = { ...(target && { address: target }), port: port(guestPort, 1) };
  if (kind === "unix") return { protocol: "tcp", host: { path: from }, guest, count: 1 };
  const place = /^(\[[^\]]*\]|[^:]*):(\d+)(?:\.\.(\d+))?$/.exec(from);
  if (place === null) return refuse(`${from} is no address and port of this host, such as 127.0.0.1:8080`);
  const [, hostAddress = "", first = "", last = first] = place;
  const host = { address: address(hostAddress) ?? LOOPBACK, port: port(first, last === first ? 0 : 1) };
  const count = port(last, 0) - host.port + 1;
  if (count < 1 || guest.port + count > 65536) refuse(`${first}..${last} is no range of ports that fits the guest's`);
  if (target !== undefined && target.length !== host.address.length && kind === "udp") {
    refuse("a datagram keeps its family: both addresses are of IPv4, or both of IPv6");
  }
  return { protocol: kind as "tcp" | "udp", host, guest, count };
}

export function formatForward({ protocol, host, guest, count }: Forward): string {
  const written = (address: Uint8Array | undefined) =>
    address === undefined ? "" : address.length === 4 ? formatAddress(address) : `[${formatAddress(address)}]`;
  const to = `${written(guest.address)}:${guest.port}`;
  if ("path" in host) return `unix:${host.path}-${to}`;
  const range = count > 1 ? `..${host.port + count - 1}` : "";
  return `${protocol}:${written(host.address)}:${host.port}${range}-${to}`;
}
