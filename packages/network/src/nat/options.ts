/** What a NAT is asked to be. */

import type { Clock } from "../clock.ts";
import { NetworkError } from "../errors.ts";
import { hostOf, type Prefix, parsePrefix } from "../packet/address.ts";
import type { Stations } from "./dhcp/leases.ts";
import type { Resolvers } from "./dns/upstream.ts";
import type { Forward } from "./forward.ts";
import type { Addresses, Router6 } from "./link.ts";

export interface NatOptions {
  /** The guest's network, of 24 bits or less; the gateway is its second address, the name server its third. Default: 10.0.2.0/24. */
  readonly network?: string;
  /** The same of IPv6, of 64 bits. Default: fd00:10:0:2::/64. */
  readonly network6?: string;
  /** The largest IP packet on the wire. Default: 1500. */
  readonly mtu?: number;
  /** Another's address that DHCP says leads out: this NAT gives addresses and names, and no way out. */
  readonly router?: Uint8Array;
  /** The same of IPv6: its address of the link, which router advertisements are from. Default: the gateway. */
  readonly router6?: Router6;
  /** No way out: the guest has DHCP, local names and what is forwarded to it. Default: false. */
  readonly restrict?: boolean;
  /** The gateway's address leads to this host's loopback address. Default: false. */
  readonly loopback?: boolean;
  readonly forwards?: readonly Forward[];
  /** What the guest is called. */
  readonly hostName?: string;
  /** Where there are many guests: who they are, and which addresses they had. */
  readonly stations?: Stations;
  /** Default: the system's. */
  readonly clock?: Clock;
  /** Default: what /etc/resolv.conf says whenever it is needed. */
  readonly resolvers?: () => Resolvers;
}

export const DEFAULT_MTU = 1500;
/** RFC 8200, 5: IPv6 needs that. */
const LEAST_MTU = 1280;
const MOST_MTU = 65520;

/** Checks the addresses of a network and says whose they are. */
export function addressesOf({
  network = "10.0.2.0/24",
  network6 = "fd00:10:0:2::/64",
  router6,
}: NatOptions): Addresses {
  const four = prefix(network, 4);
  const six = prefix(network6, 16);
  if (four.bits < 8 || four.bits > 27) refuse(`network ${network}: it has 8 to 27 bits, such as 10.0.2.0/24`);
  if (six.bits !== 64) refuse(`network ${network6}: one of IPv6 has 64 bits, such as fd00:10:0:2::/64`);
  const gateway = hostOf(four, 2);
  const local = hostOf(parsePrefix("fe80::/64")!, 2);
  // An address of the local administration, which says what it stands for.
  const mac = Uint8Array.of(0x52, 0x55, ...gateway);
  return {
    mac,
    network: four,
    network6: six,
    gateway,
    gateway6: hostOf(six, 2),
    gatewayLocal6: local,
    router6: router6 ?? { address: local, mac },
    names: hostOf(four, 3),
    names6: hostOf(six, 3),
  };
}

export function checkMtu(mtu = DEFAULT_MTU): number {
  if (Number.isInteger(mtu) && mtu >= LEAST_MTU && mtu <= MOST_MTU) return mtu;
  return refuse(`an MTU of ${mtu}: ${LEAST_MTU} to ${MOST_MTU} are possible`);
}

function prefix(text: string, bytes: number): Prefix {
  const found = parsePrefix(text);
  if (found !== undefined && found.address.length === bytes) return found;
  return refuse(
    `network ${text}: write an address and its bits, such as ${bytes === 4 ? "10.0.2.0/24" : "fd00:10:0:2::/64"}`,
  );
}

function refuse(message: string): never {
  throw new NetworkError("NETWORK_CONFIG", message);
}
