/** A machine's network cards as a user says them: `nat,hostfwd=tcp:127.0.0.1:8080-:80`. */

import {
  checkVlan,
  type DatagramPlace,
  type Forward,
  isMacvtapMode,
  MACVTAP_MODES,
  type MacvtapMode,
  parseAddress,
  parseDatagramPlace,
  parseFilter,
  parseForward,
  parseVlans,
  type Rate,
  type StreamPlace,
} from "@lodge/network";
import { VmmError } from "../errors.ts";
import { parseCount, parseFields, parseSwitch } from "./fields.ts";
import { parseSize } from "./size.ts";

interface Card {
  /** Default: one made up for the machine. */
  readonly mac?: string;
  /** The largest IP packet. Default: 1500. */
  readonly mtu?: number;
  /** Queues in each direction; as many as there are vCPUs is a good number. Default: 1. */
  readonly queues?: number;
  /** A file that all frames are written to, for Wireshark. */
  readonly pcap?: string;
  /** Bytes a second that the guest gets, and that it sends. Default: no bound. */
  readonly inbound?: Rate;
  readonly outbound?: Rate;
}

interface TapCard extends Card {
  /** The kernel carries the frames in the guest's own memory (vhost-net). Default: where it can and nothing here is to see them. */
  readonly vhost?: boolean;
}

/** A card, and what it is connected to. */
export type NetworkOptions =
  | (Card & {
      /** User-mode NAT: no privileges, nothing to set up. */
      readonly mode: "nat";
      readonly network?: string;
      readonly network6?: string;
      /** No way out. Default: false. */
      readonly restrict?: boolean;
      /** The gateway's address leads to the host's loopback address. Default: false. */
      readonly loopback?: boolean;
      readonly forwards?: readonly Forward[];
    })
  | (TapCard & {
      /** A tap of the host, or a macvtap that exists. */
      readonly mode: "tap";
      readonly ifname: string;
    })
  | (TapCard & {
      /** Taps that are open already, one for each queue; they are closed with the machine. */
      readonly mode: "tap";
      readonly fds: readonly number[];
    })
  | (TapCard & {
      /** A macvtap on a device of the host's: a station of its own beside it. */
      readonly mode: "macvtap";
      readonly device: string;
      /** What it has to do with others on the device (ip-link(8)). Default: bridge. */
      readonly kind?: MacvtapMode;
    })
  | (TapCard & {
      /** A Linux bridge of the host: a tap is made a port of it. */
      readonly mode: "bridge";
      readonly bridge: string;
      /** What the guest is kept from. Default: `clean-traffic`. */
      readonly filter?: string;
      /** The guest's addresses, for the filter. Default: what DHCP gives it, or what it uses first. */
      readonly addresses?: readonly string[];
      /** Whose DHCP answers the filter believes. Default: everybody's. */
      readonly dhcpServers?: readonly string[];
    })
  | (Card & {
      /** A stream socket: another machine's, QEMU's `-netdev stream`, passt. */
      readonly mode: "stream";
      readonly place: StreamPlace;
      /** Listens, instead of connecting. Default: false. */
      readonly server?: boolean;
    })
  | (Card & {
      /** A datagram socket: another machine's, QEMU's `-netdev dgram`. */
      readonly mode: "dgram";
      readonly local: DatagramPlace;
      readonly remote: DatagramPlace;
    })
  | (Pick<Card, "mac" | "mtu" | "queues"> & {
      /** Another process carries the frames, in the guest's own memory: passt, Open vSwitch, DPDK. */
      readonly mode: "vhost-user";
      /** The Unix socket at which it listens. */
      readonly path: string;
    })
  | (Card & {
      /** A named network of this user's, with other machines on it. */
      readonly mode: "switch";
      readonly network: string;
      /** The VLAN of its untagged frames. Default: 1, which everybody is in. */
      readonly vlan?: number;
      /** The VLANs whose frames it sends and gets with a tag. */
      readonly trunk?: readonly number[];
      /** What the guest is kept from: `clean-traffic`, `none`, or rules. Default: `clean-traffic`. */
      readonly filter?: string;
    });

export const DEFAULT_NETWORKS: readonly NetworkOptions[] = [{ mode: "nat" }];
const MOST_CARDS = 16;

/** Reads one; undefined for `none`. */
export function parseNetwork(text: string, option: string): NetworkOptions | undefined {
  const kind = text.split(",")[0]!;
  // A network is named where its kind is.
  const [mode, of] = /^(switch|bridge|macvtap)=(.*)$/.exec(kind)?.slice(1) ?? [kind];
  const ownMtu = ["mac", "queues", "pcap", "inbound", "outbound"];
  const card = ["mac", "mtu", "queues", "pcap", "inbound", "outbound"];
  switch (mode) {
    case "none":
      parseFields(text, option, []);
      return undefined;
    case "nat":
    case "user": {
      const known = [...card, "network", "network6", "restrict", "loopback"];
      const { named, listed } = parseFields(text, option, known, ["hostfwd"]);
      const [network, network6] = [named.get("network"), named.get("network6")];
      return {
        mode: "nat",
        ...cardOf(named),
        ...(network !== undefined && { network }),
        ...(network6 !== undefined && { network6 }),
        restrict: parseSwitch(named.get("restrict"), "restrict"),
        loopback: parseSwitch(named.get("loopback"), "loopback"),
        forwards: listed("hostfwd").map((forward) => parsed(() => parseForward(forward))),
      };
    }
    case "tap": {
      const { named } = parseFields(text, option, [...card, "vhost", "ifname", "fd"]);
      const [ifname, fd] = [named.get("ifname"), named.get("fd")];
      if ((ifname === undefined) === (fd === undefined)) {
        throw new VmmError(
          "VMM_CONFIG",
          `${option} ${text}: which one? tap,ifname=NAME, or tap,fd=N for one that is open`,
        );
      }
      if (ifname !== undefined) return { mode: "tap", ...tapCardOf(named), ifname };
      const fds = fd!.split(":").map((number) => parseCount(number, "fd"));
      if (named.has("queues"))
        throw new VmmError("VMM_CONFIG", `${option} ${text}: it has as many queues as descriptors`);
      return { mode: "tap", ...tapCardOf(named), fds };
    }
    case "macvtap": {
      const { named } = parseFields(text, option, [...ownMtu, "vhost", "mode"]);
      const kind = named.get("mode");
      if (of === undefined || of === "") {
        throw new VmmError(
          "VMM_CONFIG",
          `${option} ${text}: on which device? macvtap=NAME; ip link says what there is`,
        );
      }
      if (kind !== undefined && !isMacvtapMode(kind)) {
        throw new VmmError("VMM_CONFIG", `mode=${kind}: there is ${MACVTAP_MODES.join(", ")}`);
      }
      return { mode: "macvtap", ...tapCardOf(named), device: of, ...(kind !== undefined && { kind }) };
    }
    case "bridge": {
      const { named, listed } = parseFields(text, option, [...ownMtu, "vhost", "filter"], ["ip", "dhcp"]);
      if (of === undefined || of === "") {
        throw new VmmError(
          "VMM_CONFIG",
          `${option} ${text}: which one? bridge=NAME; ip link show type bridge says what there is`,
        );
      }
      const [addresses, dhcpServers] = [listed("ip"), listed("dhcp")];
      const wrong = addresses.find((address) => parseAddress(address) === undefined);
      if (wrong !== undefined) throw new VmmError("VMM_CONFIG", `ip=${wrong}: this is no address of IPv4 or IPv6`);
      const noServer = dhcpServers.find((address) => parseAddress(address)?.length !== 4);
      if (noServer !== undefined) throw new VmmError("VMM_CONFIG", `dhcp=${noServer}: this is no address of IPv4`);
      return {
        mode: "bridge",
        ...tapCardOf(named),
        bridge: of,
        ...filterOf(named),
        addresses,
        ...(dhcpServers.length > 0 && { dhcpServers }),
      };
    }
    case "stream": {
      const { named } = parseFields(text, option, [...card, "path", "host", "port", "server"]);
      const server = parseSwitch(named.get("server"), "server");
      return { mode: "stream", ...cardOf(named), place: placeOf(named, `${option} ${text}`), server };
    }
    case "dgram": {
      const { named } = parseFields(text, option, [...card, "local", "remote"]);
      const [local, remote] = [named.get("local"), named.get("remote")];
      if (local === undefined || remote === undefined) {
        throw new VmmError(
          "VMM_CONFIG",
          `${option} ${text}: between which two? dgram,local=127.0.0.1:4000,remote=127.0.0.1:4001, or unix:PATH for each`,
        );
      }
      const [here, there] = [parsed(() => parseDatagramPlace(local)), parsed(() => parseDatagramPlace(remote))];
      return { mode: "dgram", ...cardOf(named), local: here, remote: there };
    }
    case "vhost-user": {
      const { named } = parseFields(text, option, ["mac", "mtu", "path", "queues"]);
      const path = named.get("path");
      if (path === undefined) {
        throw new VmmError(
          "VMM_CONFIG",
          `${option} ${text}: where does it listen? vhost-user,path=SOCKET, of passt --vhost-user or a switch`,
        );
      }
      return { mode: "vhost-user", path, ...cardOf(named) };
    }
    case "switch": {
      const { named } = parseFields(text, option, [...ownMtu, "vlan", "trunk", "filter"]);
      if (of === undefined || of === "") {
        throw new VmmError(
          "VMM_CONFIG",
          `${option} ${text}: which one? switch=NAME; lodge net list says what there is`,
        );
      }
      const [vlan, trunk] = [named.get("vlan"), named.get("trunk")];
      return {
        mode: "switch",
        ...cardOf(named),
        network: of,
        ...(vlan !== undefined && { vlan: parsed(() => checkVlan(Number(vlan))) }),
        ...filterOf(named),
        ...(trunk !== undefined && { trunk: parsed(() => parseVlans(trunk)) }),
      };
    }
    default:
      throw new VmmError(
        "VMM_CONFIG",
        `${option} ${text}: there is nat, switch=NAME, bridge=NAME, tap, macvtap=DEVICE, stream, dgram, vhost-user and none`,
      );
  }
}

function placeOf(named: ReadonlyMap<string, string>, what: string): StreamPlace {
  const [path, host, port] = [named.get("path"), named.get("host") ?? "127.0.0.1", named.get("port")];
  if ((path === undefined) === (port === undefined)) {
    throw new VmmError(
      "VMM_CONFIG",
      `${what}: where? stream,path=SOCKET or stream,host=ADDRESS,port=N, and server at one end`,
    );
  }
  if (path !== undefined) return { path };
  const number = parseCount(port!, "port");
  if (number > 65535) throw new VmmError("VMM_CONFIG", `${what}: port ${number} is not 1 to 65535`);
  return { host, port: number };
}

function filterOf(named: ReadonlyMap<string, string>): { filter?: string } {
  const filter = named.get("filter");
  if (filter === undefined) return {};
  parsed(() => parseFilter(filter));
  return { filter };
}

function cardOf(named: ReadonlyMap<string, string>): Card {
  const [mac, mtu, queues, pcap] = ["mac", "mtu", "queues", "pcap"].map((name) => named.get(name));
  const rate = (direction: "inbound" | "outbound") => {
    const text = named.get(direction);
    return text === undefined ? {} : { [direction]: readRate(text, direction) };
  };
  return {
    ...(mac !== undefined && { mac }),
    ...(mtu !== undefined && { mtu: parseCount(mtu, "mtu") }),
    ...(queues !== undefined && { queues: parseCount(queues, "queues") }),
    ...(pcap !== undefined && { pcap }),
    ...rate("inbound"),
    ...rate("outbound"),
  };
}

function tapCardOf(named: ReadonlyMap<string, string>): TapCard {
  const vhost = named.get("vhost");
  return { ...cardOf(named), ...(vhost !== undefined && { vhost: parseSwitch(vhost, "vhost") }) };
}

/** `AVERAGE[:PEAK[:BURST]]`, sizes a second and, the last, at once. */
function readRate(text: string, what: string): Rate {
  const parts = text.split(":");
  if (parts.length > 3) throw new VmmError("VMM_CONFIG", `${what}=${text}: AVERAGE[:PEAK[:BURST]], such as 10M:20M:1M`);
  const [average, peak, burst] = parts.map((part) => parseSize(part, what));
  if (average === 0 || burst === 0) throw new VmmError("VMM_CONFIG", `${what}=${text}: 0 would be nothing at all`);
  if (peak !== undefined && peak < average!) {
    throw new VmmError("VMM_CONFIG", `${what}=${text}: the peak is not below the average`);
  }
  return { average: average!, ...(peak !== undefined && { peak }), ...(burst !== undefined && { burst }) };
}

/** What the network package makes of a text; its refusal is one of the configuration. */
function parsed<T>(parse: () => T): T {
  try {
    return parse();
  } catch (error) {
    throw new VmmError("VMM_CONFIG", (error as Error).message, { cause: error });
  }
}

export function checkNetworks(networks: readonly NetworkOptions[]): readonly NetworkOptions[] {
  if (networks.length > MOST_CARDS) {
    throw new VmmError("VMM_CONFIG", `${networks.length} network cards: a machine has up to ${MOST_CARDS}`);
  }
  for (const { mac } of networks) {
    if (mac === undefined) continue;
    // The lowest bit of the first byte says that it is a group's.
    const isStation = /^([0-9a-f]{2}:){5}[0-9a-f]{2}$/i.test(mac) && (Number.parseInt(mac.slice(0, 2), 16) & 1) === 0;
    if (!isStation)
      throw new VmmError("VMM_CONFIG", `mac ${mac} is no address of one station, such as 52:54:00:12:34:56`);
    if (networks.some((other) => other.mac === mac && other !== networks.find((one) => one.mac === mac))) {
      throw new VmmError("VMM_CONFIG", `two network cards have the address ${mac}`);
    }
  }
  return networks;
}
