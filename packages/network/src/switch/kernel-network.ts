/**
 * A named network that the host's kernel carries: a bridge with an address, and a table of nftables, both of them ours alone. They
 * are made by the network's process and go with it; what one that was killed has left is taken over by the next.
 */

import { spawnSync } from "node:child_process";
import { existsSync } from "node:fs";
import type { NetworkDefinition } from "../definition/definition.ts";
import { NetworkError } from "../errors.ts";
import { IPV4, IPV6, startForwarding, stopForwarding } from "../host/forwarding.ts";
import { Interfaces } from "../host/interface.ts";
import type { Router6 } from "../nat/link.ts";
import { hostOf, parsePrefix } from "../packet/address.ts";

const TABLE_PREFIX = "lodge_";
const LINK_LOCAL6 = parsePrefix("fe80::/64")!;

export class KernelNetwork implements Disposable {
  readonly #definition: NetworkDefinition;
  readonly #bridge: string;
  /** The host's own, which is the machines' router. */
  readonly router: Uint8Array;
  /** The same of IPv6, of which a host may have none. */
  readonly router6: Router6 | undefined;

  /** Throws a `NetworkError`; nothing is left behind then. */
  constructor(definition: NetworkDefinition) {
    this.#definition = definition;
    const { name, mtu, network = "", network6 = "" } = definition;
    const prefix = parsePrefix(network)!;
    this.#bridge = bridgeName(name);
    this.router = hostOf(prefix, 1);
    using undo = new DisposableStack();
    using interfaces = new Interfaces();
    undo.defer(() => this[Symbol.dispose]());
    interfaces.makeBridge(this.#bridge, `network ${name}`);
    // It would be that of the least port otherwise, and another with every machine that comes or goes.
    const mac = Uint8Array.of(0x52, 0x55, ...this.router);
    interfaces.setMac(this.#bridge, mac);
    interfaces.setAddress(this.#bridge, this.router, prefix.bits);
    if (mtu !== undefined) interfaces.setMtu(this.#bridge, mtu);
    interfaces.setUp(this.#bridge);
    const prefix6 = parsePrefix(network6);
    if (prefix6 !== undefined && existsSync(`/proc/sys/net/ipv6/conf/${this.#bridge}`)) {
      const address = hostOf(LINK_LOCAL6, 1);
      interfaces.addAddress6(this.#bridge, address, LINK_LOCAL6.bits);
      interfaces.addAddress6(this.#bridge, hostOf(prefix6, 1), prefix6.bits);
      this.router6 = { address, mac };
    }
    nft(this.#rules(), `network ${name}`);
    if (definition.mode === "nat") {
      startForwarding(IPV4);
      if (this.router6 !== undefined) startForwarding(IPV6);
    }
    undo.move();
  }

  get #table(): string {
    // A name of nftables has no hyphens, and one of a network no dots.
    return TABLE_PREFIX + this.#definition.name.replaceAll("-", ".");
  }

  /** All of it takes effect at once, in place of what was there. */
  #rules(): string {
    const { mode, network, network6 } = this.#definition;
    const own = `"${this.#bridge}"`;
    const families = [["ip", network] as const, ...(this.router6 ? [["ip6", network6] as const] : [])];
    const lines = (line: (family: string, network: string | undefined) => string) =>
      mode === "nat" ? families.map(([family, of]) => line(family, of)).join("\n") : "";
    const out = lines(
      (family, of) => `iifname ${own} ${family} saddr ${of} accept
        oifname ${own} ${family} daddr ${of} ct state established,related accept`,
    );
    return `
      table inet ${this.#table}
      delete table inet ${this.#table}
      table inet ${this.#table} {
        chain forward {
          type filter hook forward priority filter; policy accept;
          iifname ${own} oifname ${own} accept
          ${out}
          iifname ${own} reject
          oifname ${own} reject
        }
        ${
          mode === "nat"
            ? `chain postrouting {
          type nat hook postrouting priority srcnat; policy accept;
          ${lines((family, of) => `${family} saddr ${of} oifname != ${own} masquerade`)}
        }`
            : ""
        }
      }`;
  }

  /** Addresses that are no machine's. */
  get reserved(): readonly Uint8Array[] {
    const { network6 = "" } = this.#definition;
    return [this.router, ...(this.router6 ? [this.router6.address, hostOf(parsePrefix(network6)!, 1)] : [])];
  }

  [Symbol.dispose](): void {
    using interfaces = new Interfaces();
    interfaces.removeBridge(this.#bridge);
    spawnSync("nft", ["delete", "table", "inet", this.#table]);
    // Unless another network of ours needs it.
    const { stdout } = spawnSync("nft", ["list", "tables", "inet"], { encoding: "utf8" });
    if (!stdout.includes(` ${TABLE_PREFIX}`)) for (const family of [IPV4, IPV6]) stopForwarding(family);
  }
}

/** A device's name has 15 characters; a longer one of a network is told apart by its hash. */
export function bridgeName(network: string): string {
  if (network.length <= 9) return `lodge-${network}`;
  let hash = 0;
  for (const byte of Buffer.from(network)) hash = (Math.imul(hash, 31) + byte) >>> 0;
  return `lodge-${network.slice(0, 4)}${hash.toString(36).padStart(5, "0").slice(-5)}`;
}

function nft(rules: string, what: string): void {
  const { error, status, stderr } = spawnSync("nft", ["-f", "-"], { input: rules, encoding: "utf8" });
  if (error !== undefined) {
    throw new NetworkError("NETWORK_HOST", `${what}: nft is not installed; its package is nftables`, { cause: error });
  }
  if (status === 0) return;
  throw new NetworkError("NETWORK_HOST", `${what}: nft: ${stderr.trim().split("\n")[0]}`);
}
