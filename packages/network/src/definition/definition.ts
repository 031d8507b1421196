/** What a named network is: what `lodge net create` writes and machines join. */

import { networkInterfaces } from "node:os";
import { NetworkError } from "../errors.ts";
import { parseForward } from "../nat/forward.ts";
import { addressesOf, checkMtu } from "../nat/options.ts";
import { isWithin, parseAddress, parsePrefix } from "../packet/address.ts";
import { DEFAULT_FLOOD } from "../switch/switch.ts";

/**
 * `nat`: addresses, names and a way out; `isolated`: addresses and names only; `bare`: nothing but frames between machines.
 */
export const NETWORK_MODES = ["nat", "isolated", "bare"] as const;
export type NetworkMode = (typeof NETWORK_MODES)[number];

export interface NetworkDefinition {
  readonly name: string;
  readonly mode: NetworkMode;
  /** IPv4's and IPv6's addresses; a bare network has none of its own. */
  readonly network?: string;
  readonly network6?: string;
  /** The largest IP packet. Default: 1500. */
  readonly mtu?: number;
  /** Frames a second that one machine may send to all. Default: 2000. */
  readonly flood?: number;
  /** The host's kernel carries it: a bridge, and masquerading for `nat`. Default: false, a switch of ours does. */
  readonly bridge?: boolean;
  /** The gateway's address leads to the host's loopback address. Default: false. */
  readonly loopback?: boolean;
  /** Ports of the host that lead to machines: `tcp:127.0.0.1:8080-10.78.1.15:80`. */
  readonly forwards?: readonly string[];
}

const NAME = /^[A-Za-z0-9][A-Za-z0-9_-]{0,31}$/;
const FIELDS: Readonly<Record<string, (value: unknown) => boolean>> = {
  name: (value) => typeof value === "string",
  mode: (value) => NETWORK_MODES.some((mode) => mode === value),
  network: (value) => typeof value === "string",
  network6: (value) => typeof value === "string",
  mtu: Number.isInteger,
  flood: Number.isInteger,
  bridge: (value) => typeof value === "boolean",
  loopback: (value) => typeof value === "boolean",
  forwards: (value) => Array.isArray(value) && value.every((one) => typeof one === "string"),
};

export function checkNetworkName(name: string): string {
  if (NAME.test(name)) return name;
  throw new NetworkError(
    "NETWORK_CONFIG",
    `network ${JSON.stringify(name)}: a name is 1 to 32 letters, digits, hyphens and underscores`,
  );
}

/** Checks all that is there, and that nothing else is. */
export function checkDefinition(given: object): NetworkDefinition {
  const refuse = (why: string): never => {
    throw new NetworkError("NETWORK_CONFIG", why);
  };
  for (const [field, value] of Object.entries(given)) {
    const check = Object.hasOwn(FIELDS, field) ? FIELDS[field] : undefined;
    if (check === undefined) refuse(`a network has no ${field}`);
    if (!check!(value)) refuse(`a network's ${field} cannot be ${JSON.stringify(value)}`);
  }
  const definition = given as NetworkDefinition;
  const { name, mode, network, network6, mtu, flood = DEFAULT_FLOOD, forwards = [], loopback, bridge } = definition;
  checkNetworkName(name ?? "");
  if (mode === undefined) refuse(`network ${name}: it is one of ${NETWORK_MODES.join(", ")}`);
  checkMtu(mtu);
  if (flood < 1) refuse(`network ${name}: ${flood} frames a second to all: at least 1`);
  if (mode !== "nat" && (forwards.length > 0 || loopback)) {
    refuse(`network ${name} is ${mode}: ports and the host's loopback address lead into a network with NAT only`);
  }
  if (bridge && mode === "bare")
    refuse(`network ${name}: a bare one with a bridge is a bridge; make it and use bridge=NAME`);
  if (bridge && (forwards.length > 0 || loopback)) {
    refuse(`network ${name} has a bridge: ports and the host's loopback address lead into one without only`);
  }
  if (mode === "bare") {
    if (network !== undefined || network6 !== undefined) refuse(`network ${name} is bare: it has no addresses`);
    return definition;
  }
  if (network === undefined || network6 === undefined) refuse(`network ${name}: it needs addresses`);
  const { network: own, network6: own6 } = addressesOf({ network: network!, network6: network6! });
  for (const text of forwards) {
    const { guest } = parseForward(text);
    if (guest.address === undefined)
      refuse(`${text}: to which machine? tcp:127.0.0.1:8080-${network!.split(".0/")[0]}.15:80`);
    else if (!isWithin(guest.address, own) && !isWithin(guest.address, own6)) {
      refuse(`${text}: no machine of ${network} has that address`);
    }
  }
  return definition;
}

/** Addresses that neither another network nor the host has: 10.78.1.0/24 and on, with IPv6's of the same number. */
export function freeAddresses(others: readonly NetworkDefinition[]): { network: string; network6: string } {
  const own = Object.values(networkInterfaces()).flatMap((list) => list ?? []);
  for (let number = 1; number < 255; number++) {
    const network = `10.78.${number}.0/24`;
    const prefix = parsePrefix(network)!;
    const isTaken =
      others.some((other) => other.network !== undefined && overlaps(other.network, network)) ||
      own.some(({ address }) => isWithin(parseAddress(address) ?? new Uint8Array(0), prefix));
    if (!isTaken) return { network, network6: `fd00:10:78:${number.toString(16)}::/64` };
  }
  throw new NetworkError("NETWORK_CONFIG", "all of 10.78.0.0/16 is in use: say which addresses the network shall have");
}

function overlaps(one: string, other: string): boolean {
  const [a, b] = [parsePrefix(one), parsePrefix(other)];
  return a !== undefined && b !== undefined && (isWithin(a.address, b) || isWithin(b.address, a));
}
