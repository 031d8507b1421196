/**
 * Whose an address is. Those that DHCP gave are their machines'; any other is of the first that uses it, as long as its machine
 * is there: nobody takes another's, and who makes himself addresses (IPv6, or set by hand) needs to tell nobody.
 */

import { addressKey, isWithin, type Prefix, prefixes, sameAddress } from "../packet/address.ts";

/** Of one machine; beyond that the one that it used longest ago is free again. */
const MOST_CLAIMS = 16;
/** No station's: groups, everybody, the host itself. */
const NOBODYS = prefixes("0.0.0.0/8", "127.0.0.0/8", "224.0.0.0/3", "::/127", "ff00::/8");
const LINK_LOCAL6 = prefixes("fe80::/10");

export interface AddressRules<Owner> {
  /** Nobody's but the gateway's. */
  readonly reserved: readonly Uint8Array[];
  /** Where addresses must be; undefined: anywhere. */
  readonly networks: readonly Prefix[] | undefined;
  /** To whom DHCP gave it, of those who are there. */
  readonly leasedTo: (address: Uint8Array) => Owner | undefined;
}

export class AddressBook<Owner> {
  readonly #rules: AddressRules<Owner>;
  readonly #owners = new Map<string, Owner>();
  /** In the order of their last use. */
  readonly #claims = new Map<Owner, Set<string>>();

  constructor(rules: AddressRules<Owner>) {
    this.#rules = rules;
  }

  /** Whether it may send from this address; one that is free is its own from now on. */
  mayUse(owner: Owner, address: Uint8Array): boolean {
    const key = addressKey(address);
    const { reserved, networks, leasedTo } = this.#rules;
    const holder = leasedTo(address) ?? this.#owners.get(key);
    if (holder !== undefined) {
      if (holder === owner) this.#use(owner, key);
      return holder === owner;
    }
    if (reserved.some((own) => sameAddress(own, address)) || within(address, NOBODYS)) return false;
    if (networks !== undefined && !within(address, networks) && !within(address, LINK_LOCAL6)) return false;
    this.#use(owner, key);
    return true;
  }

  /** Whether a machine has it that did not get it by DHCP. */
  isClaimed(address: Uint8Array): boolean {
    return this.#owners.has(addressKey(address));
  }

  #use(owner: Owner, key: string): void {
    const claims = this.#claims.get(owner) ?? new Set();
    this.#claims.set(owner, claims);
    claims.delete(key);
    claims.add(key);
    this.#owners.set(key, owner);
    if (claims.size <= MOST_CLAIMS) return;
    const oldest = claims.values().next().value!;
    claims.delete(oldest);
    this.#owners.delete(oldest);
  }

  /** It is gone. */
  release(owner: Owner): void {
    for (const key of this.#claims.get(owner) ?? []) this.#owners.delete(key);
    this.#claims.delete(owner);
  }
}

function within(address: Uint8Array, networks: readonly Prefix[]): boolean {
  return networks.some((network) => isWithin(address, network));
}
