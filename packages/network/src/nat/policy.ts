/** Which address of the host's world an address of the guest's leads to, and which lead nowhere. */

import { isWithin, prefixes, sameAddress } from "../packet/address.ts";
import type { UnreachableReason } from "../packet/icmp.ts";
import type { GuestLink } from "./link.ts";

export type Destination =
  | { readonly kind: "world"; readonly address: Uint8Array }
  /** The name server, which is ours. */
  | { readonly kind: "names" }
  /** The gateway itself, where nothing listens. */
  | { readonly kind: "gateway" }
  | { readonly kind: "unreachable"; readonly reason: UnreachableReason };

/**
 * What no router passes on: the host itself (RFC 1122, 3.2.1.3: a connect to 0.0.0.0 ends at the host, too), links, groups,
 * and the ways of IPv6 to write IPv4, behind which the same would hide.
 */
const NOWHERE = prefixes(
  ...["0.0.0.0/8", "127.0.0.0/8", "169.254.0.0/16", "224.0.0.0/4", "240.0.0.0/4"],
  ...["::/96", "::ffff:0:0/96", "64:ff9b::/96", "fe80::/10", "fec0::/10", "ff00::/8"],
);

const LOOPBACK4 = Uint8Array.of(127, 0, 0, 1);
const LOOPBACK6 = Uint8Array.of(0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1);

export interface PolicyOptions {
  /** No way out. */
  readonly restrict: boolean;
  /** The gateway's address leads to the host's loopback address. */
  readonly loopback: boolean;
}

export class Policy {
  readonly #link: GuestLink;
  readonly #options: PolicyOptions;

  constructor(link: GuestLink, options: PolicyOptions) {
    this.#link = link;
    this.#options = options;
  }

  destination(address: Uint8Array): Destination {
    const { gateway, gateway6, names, names6, network, network6 } = this.#link.addresses;
    if (sameAddress(address, names) || sameAddress(address, names6)) return { kind: "names" };
    if (this.#link.isOwn(address)) {
      const isRouted = sameAddress(address, gateway) || sameAddress(address, gateway6);
      if (!this.#options.loopback || !isRouted) return { kind: "gateway" };
      return { kind: "world", address: address.length === 4 ? LOOPBACK4 : LOOPBACK6 };
    }
    if (isWithin(address, network) || isWithin(address, network6)) return { kind: "unreachable", reason: "host" };
    if (this.#options.restrict || NOWHERE.some((prefix) => isWithin(address, prefix))) {
      return { kind: "unreachable", reason: "prohibited" };
    }
    return { kind: "world", address: address.slice() };
  }
}
