/** Which station has which address. A station gets the one that it had, as long as there are others. */

import { formatMac, hostOf, type Prefix, sameAddress } from "../../packet/address.ts";

/** The first station's address is the network's 15th, as QEMU's guests have it. */
const FIRST = 15;
const MOST = 235;

export interface Lease {
  readonly mac: Uint8Array;
  readonly index: number;
  readonly address: Uint8Array;
  readonly address6: Uint8Array;
  /** What it calls itself. */
  name: string | undefined;
}

export class Leases {
  readonly #network: Prefix;
  readonly #network6: Prefix;
  /** In the order of their last use. */
  readonly #leases = new Map<string, Lease>();
  /** Somebody else has them, a station found (DHCPDECLINE). */
  readonly #declined = new Set<number>();

  constructor(network: Prefix, network6: Prefix) {
    this.#network = network;
    this.#network6 = network6;
  }

  get all(): Iterable<Lease> {
    return this.#leases.values();
  }

  /** How many there can be. */
  get #most(): number {
    return Math.min(MOST, 2 ** (32 - this.#network.bits) - FIRST - 1);
  }

  /** The station's, or a new one; the one used longest ago is given anew when there is no other. */
  take(mac: Uint8Array): Lease {
    const key = formatMac(mac);
    let lease = this.#leases.get(key);
    this.#leases.delete(key);
    lease ??= this.#make(mac.slice());
    this.#leases.set(key, lease);
    return lease;
  }

  #make(mac: Uint8Array): Lease {
    const used = new Set([...this.#leases.values()].map(({ index }) => index));
    let index = 0;
    while (index < this.#most && (used.has(index) || this.#declined.has(index))) index += 1;
    if (index >= this.#most) {
      const oldest = this.#leases.entries().next().value;
      if (oldest !== undefined) this.#leases.delete(oldest[0]);
      this.#declined.clear();
      index = oldest?.[1].index ?? 0;
    }
    return this.#lease(mac, index);
  }

  #lease(mac: Uint8Array, index: number): Lease {
    const address = hostOf(this.#network, FIRST + index);
    const address6 = hostOf({ ...this.#network6, address: withHost(this.#network6.address) }, FIRST + index);
    return { mac, index, address, address6, name: undefined };
  }

  /** What the first station will have. */
  get first(): Lease {
    return this.#lease(new Uint8Array(6), 0);
  }

  find(mac: Uint8Array): Lease | undefined {
    return this.#leases.get(formatMac(mac));
  }

  byName(name: string): Lease | undefined {
    return [...this.#leases.values()].find((lease) => lease.name === name);
  }

  byAddress(address: Uint8Array): Lease | undefined {
    const is = ({ address: four, address6: six }: Lease) => sameAddress(four, address) || sameAddress(six, address);
    return [...this.#leases.values()].find(is);
  }

  release(mac: Uint8Array): void {
    this.#leases.delete(formatMac(mac));
  }

  decline(mac: Uint8Array): void {
    const lease = this.find(mac);
    if (lease === undefined) return;
    this.#declined.add(lease.index);
    this.release(mac);
  }
}

/** Addresses that DHCPv6 gives stand apart from those that stations make of their cards' numbers: ...:1:0 and on. */
function withHost(network: Uint8Array): Uint8Array {
  const address = network.slice();
  address[13] = 1;
  return address;
}
