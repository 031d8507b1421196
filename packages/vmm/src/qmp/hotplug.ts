/**
 * QMP's commands that plug devices in and pull them out: `blockdev-add` and `netdev_add` say what is behind a device,
 * `device_add` makes one. An image is opened with its device, and only looked at before.
 */

import { parseForward } from "@lodge/network";
import type { NetworkOptions } from "../configuration/networks.ts";
import type { DiskOptions } from "../disks/options.ts";
import type { Pluggable } from "../hotplug.ts";
import type { Machine } from "../machine.ts";
import { type Arguments, type Command, flag, text, wholeNumber } from "./command.ts";
import { QmpError } from "./protocol.ts";

/** What was said of a back end, and the device that has it. */
interface BackEnd<T> {
  readonly options: T;
  readonly device?: Pluggable;
}

interface BackEnds {
  readonly nodes: Map<string, BackEnd<DiskOptions>>;
  readonly netdevs: Map<string, BackEnd<NetworkOptions>>;
}

/** They are said on one connection and used on another. */
const known = new WeakMap<Machine, BackEnds>();

function backEnds(machine: Machine): BackEnds {
  const found = known.get(machine) ?? { nodes: new Map(), netdevs: new Map() };
  known.set(machine, found);
  return found;
}

const DISK_DRIVERS: readonly unknown[] = ["virtio-blk-pci", "virtio-blk-pci-non-transitional"];
const CARD_DRIVERS: readonly unknown[] = ["virtio-net-pci", "virtio-net-pci-non-transitional"];

export const HOTPLUG_COMMANDS: Readonly<Record<string, Command>> = {
  "blockdev-add": {
    takes: ["driver", "node-name"],
    may: ["file", "filename", "read-only", "cache", "discard", "auto-read-only"],
    run: async (machine, args) => {
      const { nodes } = backEnds(machine);
      const name = text(args, "node-name");
      if (nodes.has(name)) throw new QmpError(`Duplicate nodes with node-name='${name}'`);
      const options = diskOptions(nodes, args);
      const { file, format } = options;
      const { openImage } = await import("@lodge/storage");
      const image = await openImage(file, { ...(format !== undefined && { format }), readOnly: true });
      await image.close();
      nodes.set(name, { options });
      return {};
    },
  },
  "blockdev-del": {
    takes: ["node-name"],
    run: (machine, args) => forget(backEnds(machine).nodes, machine.disks, text(args, "node-name"), "Node"),
  },
  netdev_add: {
    takes: ["type", "id"],
    may: ["net", "restrict", "hostfwd", "ifname", "br", "addr", "server"],
    run: (machine, args) => {
      const { netdevs } = backEnds(machine);
      const id = text(args, "id");
      if (netdevs.has(id)) throw new QmpError(`Duplicate ID '${id}' for netdev`);
      netdevs.set(id, { options: networkOptions(args) });
      return {};
    },
  },
  netdev_del: {
    takes: ["id"],
    run: (machine, args) => forget(backEnds(machine).netdevs, machine.networks, text(args, "id"), "Network"),
  },
  device_add: {
    takes: ["driver"],
    may: ["id", "drive", "netdev", "mac", "serial"],
    run: async (machine, args) => {
      const { nodes, netdevs } = backEnds(machine);
      const id = args.id === undefined ? undefined : text(args, "id");
      if (DISK_DRIVERS.includes(args.driver)) {
        const name = text(args, "drive");
        const { options } = freeOf(nodes, machine.disks, name, "drive");
        const serial = args.serial === undefined ? {} : { serial: text(args, "serial") };
        nodes.set(name, { options, device: await machine.plugDisk({ ...options, ...serial }, id) });
      } else if (CARD_DRIVERS.includes(args.driver)) {
        const name = text(args, "netdev");
        const { options } = freeOf(netdevs, machine.networks, name, "netdev");
        const mac = args.mac === undefined ? {} : { mac: text(args, "mac") };
        netdevs.set(name, { options, device: await machine.plugNetwork({ ...options, ...mac }, id) });
      } else {
        throw new QmpError(
          `'${args.driver}' is no device that can be plugged in: virtio-blk-pci and virtio-net-pci are`,
        );
      }
      return {};
    },
  },
  device_del: {
    takes: ["id"],
    run: (machine, args) => {
      const id = text(args, "id");
      const found = [...machine.disks, ...machine.networks].find((one) => one.id === id);
      if (found === undefined) throw new QmpError(`Device '${id}' not found`, "DeviceNotFound");
      // DEVICE_DELETED tells when the guest has let go; a machine that ends tells that.
      machine.unplug(found).catch(() => {});
      return {};
    },
  },
};

function freeOf<T>(
  all: Map<string, BackEnd<T>>,
  there: readonly Pluggable[],
  name: string,
  property: string,
): BackEnd<T> {
  const found = all.get(name);
  if (found === undefined) throw new QmpError(`Property '${property}' can't find value '${name}'`);
  if (inUse(found, there)) throw new QmpError(`Property '${property}' can't take value '${name}', it's in use`);
  return found;
}

function forget<T>(all: Map<string, BackEnd<T>>, there: readonly Pluggable[], name: string, what: string): object {
  const found = all.get(name);
  if (found === undefined) throw new QmpError(`${what} '${name}' not found`);
  if (inUse(found, there)) throw new QmpError(`${what} '${name}' is in use`);
  all.delete(name);
  return {};
}

const inUse = <T>({ device }: BackEnd<T>, there: readonly Pluggable[]) =>
  device !== undefined && there.includes(device);

/** A format over a file, the file itself or by the name of its node; a file alone is raw. */
function diskOptions(nodes: BackEnds["nodes"], args: Arguments): DiskOptions {
  const { file, cache = {} } = args;
  const driver = text(args, "driver");
  const isFile = (name: unknown) => name === "file" || name === "host_device";
  const readonly = flag(args, "read-only");
  if (!isRecord(cache)) throw new QmpError("Parameter 'cache' expects an object");
  const mode = flag(cache, "no-flush") ? "unsafe" : flag(cache, "direct") ? "none" : "writeback";
  if (isFile(driver)) return { file: text(args, "filename"), format: "raw", readonly, cache: mode };
  if (typeof file === "string") {
    const below = nodes.get(file);
    if (below === undefined) throw new QmpError(`Cannot find device='' nor node-name='${file}'`);
    return { ...below.options, format: driver, readonly, cache: below.options.cache ?? mode };
  }
  if (!isRecord(file) || !isFile(file.driver)) throw new QmpError("Parameter 'file' expects a node of driver 'file'");
  return { file: text(file, "filename"), format: driver, readonly, cache: mode };
}

function networkOptions(args: Arguments): NetworkOptions {
  const { type, net, hostfwd = [], addr } = args;
  switch (type) {
    case "user": {
      if (!Array.isArray(hostfwd) || !hostfwd.every(isRecord)) throw new QmpError("Parameter 'hostfwd' expects a list");
      const forwards = hostfwd.map((forward) => parseForward(text(forward, "str")));
      return {
        mode: "nat",
        restrict: flag(args, "restrict"),
        forwards,
        ...(net !== undefined && { network: text(args, "net") }),
      };
    }
    case "tap":
      return { mode: "tap", ifname: text(args, "ifname") };
    case "bridge":
      return { mode: "bridge", bridge: text(args, "br") };
    case "stream": {
      if (!isRecord(addr)) throw new QmpError("Parameter 'addr' is missing");
      const server = flag(args, "server");
      if (addr.type === "unix") return { mode: "stream", place: { path: text(addr, "path") }, server };
      if (addr.type !== "inet") throw new QmpError("Parameter 'type' expects 'inet' or 'unix'");
      const port = wholeNumber(Number(text(addr, "port")), "port");
      return { mode: "stream", place: { host: text(addr, "host"), port }, server };
    }
    default:
      throw new QmpError(`Parameter 'type' does not accept value '${type}'; there is user, tap, bridge and stream`);
  }
}

function isRecord(value: unknown): value is Arguments {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}
