/** Which station has which address. A station gets the one that it had, as long as there are others. */

import { formatMac, hostOf, type Prefix, parseMac, sameAddress } from "../../packet/address.ts";

/** The first station's address is the network's 15th, as QEMU's guests have it. */
const FIRST = 15;
const MOST = 235;

export interface Lease {
  readonly mac: Uint8Array;
  readonly index: number;
  readonly address: Uint8Array;
  readonly address6: Uint8Array;
  /** It asked for the address of IPv6 (DHCPv6): others make their own, and nobody has this one. */
  has6: boolean;
  /** What it calls itself. */
  name: string | undefined;
}

/** One as it is kept. */
export interface SavedLease {
  readonly mac: string;
  readonly index: number;
  readonly has6?: boolean;
}

/** What is known of the stations beside their own words. */
export interface Stations {
  /** What a station is called. */
  readonly nameOf: (mac: Uint8Array) => string | undefined;
  /** Whether it is there: it keeps its address then, however long it has not asked. */
  readonly isPresent: (mac: Uint8Array) => boolean;
  /** Whether somebody has an address without having asked. */
  readonly isTaken: (address: Uint8Array) => boolean;
  readonly before: readonly SavedLease[];
  /** Told what is to be known the next time. */
  readonly keep: (leases: readonly SavedLease[]) => void;
}

export class Leases {
  readonly #network: Prefix;
  readonly #network6: Prefix;
  readonly #stations: Stations | undefined;
  /** In the order of their last use. */
  readonly #leases = new Map<string, Lease>();
  /** Somebody else has them, a station found (DHCPDECLINE). */
  readonly #declined = new Set<number>();

  constructor(network: Prefix, network6: Prefix, stations?: Stations) {
    this.#network = network;
    this.#network6 = network6;
    this.#stations = stations;
    const used = new Set<number>();
    for (const { mac: text, index, has6 = false } of stations?.before ?? []) {
      const mac = parseMac(text);
      if (mac === undefined || !(index >= 0 && index < this.#most) || used.has(index)) continue;
      used.add(index);
      this.#leases.set(formatMac(mac), this.#lease(mac, index, has6));
    }
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
    const isNew = lease === undefined;
    this.#leases.delete(key);
    lease ??= this.#make(mac.slice());
    this.#leases.set(key, lease);
    if (isNew) this.#keep();
    return lease;
  }

  /** The same, for its address of IPv6. */
  take6(mac: Uint8Array): Lease {
    const lease = this.take(mac);
    if (lease.has6) return lease;
    lease.has6 = true;
    this.#keep();
    return lease;
  }

  #make(mac: Uint8Array): Lease {
    const used = new Set([...this.#leases.values()].map(({ index }) => index));
    let index = 0;
    while (index < this.#most && (used.has(index) || this.#isTaken(index))) index += 1;
    if (index >= this.#most) {
      const all = [...this.#leases];
      const oldest = all.find(([, { mac }]) => !this.#stations?.isPresent(mac)) ?? all[0];
      if (oldest !== undefined) this.#leases.delete(oldest[0]);
      this.#declined.clear();
      index = oldest?.[1].index ?? 0;
    }
    return this.#lease(mac, index);
  }

  #isTaken(index: number): boolean {
    const isTaken = this.#stations?.isTaken(hostOf(this.#network, FIRST + index)) ?? false;
    return isTaken || this.#declined.has(index);
  }

  #lease(mac: Uint8Array, index: number, has6 = false): Lease {
    const address = hostOf(this.#network, FIRST + index);
    const address6 = hostOf({ ...this.#network6, address: withHost(this.#network6.address) }, FIRST + index);
    return { mac, index, address, address6, has6, name: undefined };
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
    if (this.#leases.delete(formatMac(mac))) this.#keep();
  }

  #keep(): void {
    this.#stations?.keep([...this.#leases].map(([mac, { index, has6 }]) => ({ mac, index, has6 })));
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
