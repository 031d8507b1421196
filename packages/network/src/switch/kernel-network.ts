/**
 * A named network that the host's kernel carries: a bridge with an address, and a table of nftables, both of them ours alone. They
 * are made by the network's process and go with it; what one that was killed has left is taken over by the next.
 */

import { spawnSync } from "node:child_process";
import { existsSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import type { NetworkDefinition } from "../definition/definition.ts";
import { NetworkError } from "../errors.ts";
import { Interfaces } from "../host/interface.ts";
import { hostOf, parsePrefix } from "../packet/address.ts";
import { forwardingMark } from "./place.ts";

const FORWARDING = "/proc/sys/net/ipv4/ip_forward";
const TABLE_PREFIX = "lodge_";

export class KernelNetwork implements Disposable {
  readonly #definition: NetworkDefinition;
  readonly #bridge: string;
  /** The host's own, which is the machines' router. */
  readonly router: Uint8Array;

  /** Throws a `NetworkError`; nothing is left behind then. */
  constructor(definition: NetworkDefinition) {
    this.#definition = definition;
    const { name, mtu, network = "" } = definition;
    const prefix = parsePrefix(network)!;
    this.#bridge = bridgeName(name);
    this.router = hostOf(prefix, 1);
    using undo = new DisposableStack();
    using interfaces = new Interfaces();
    undo.defer(() => this[Symbol.dispose]());
    interfaces.makeBridge(this.#bridge, `network ${name}`);
    // It would be that of the least port otherwise, and another with every machine that comes or goes.
    interfaces.setMac(this.#bridge, Uint8Array.of(0x52, 0x55, ...this.router));
    interfaces.setAddress(this.#bridge, this.router, prefix.bits);
    if (mtu !== undefined) interfaces.setMtu(this.#bridge, mtu);
    interfaces.setUp(this.#bridge);
    nft(this.#rules(), `network ${name}`);
    if (definition.mode === "nat") startForwarding();
    undo.move();
  }

  get #table(): string {
    // A name of nftables has no hyphens, and one of a network no dots.
    return TABLE_PREFIX + this.#definition.name.replaceAll("-", ".");
  }

  /** All of it takes effect at once, in place of what was there. */
  #rules(): string {
    const { mode, network } = this.#definition;
    const own = `"${this.#bridge}"`;
    const out =
      mode === "nat"
        ? `iifname ${own} ip saddr ${network} accept
           oifname ${own} ip daddr ${network} ct state established,related accept`
        : "";
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
          ip saddr ${network} oifname != ${own} masquerade
        }`
            : ""
        }
      }`;
  }

  [Symbol.dispose](): void {
    using interfaces = new Interfaces();
    interfaces.removeBridge(this.#bridge);
    spawnSync("nft", ["delete", "table", "inet", this.#table]);
    stopForwarding();
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

/** A mark says that it was off before, also to those that come after a crash. */
function startForwarding(): void {
  if (readFileSync(FORWARDING, "utf8").trim() !== "0") return;
  writeFileSync(forwardingMark(), "");
  writeFileSync(FORWARDING, "1");
}

/** As it was, unless another network of ours needs it. */
function stopForwarding(): void {
  const mark = forwardingMark();
  if (!existsSync(mark)) return;
  const { stdout } = spawnSync("nft", ["list", "tables", "inet"], { encoding: "utf8" });
  if (stdout.includes(` ${TABLE_PREFIX}`)) return;
  writeFileSync(FORWARDING, "0");
  rmSync(mark, { force: true });
}
