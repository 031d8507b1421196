/** Whole block devices of the host, each a disk; lsblk(8) knows how they stand on each other. */

import { realpath } from "node:fs/promises";
import { StorageError } from "../errors.ts";
import { type Capacity, elsewhere, fullOf, type Pool, type Volume } from "./pool.ts";
import { runJson, type Tool } from "./tools.ts";

const LSBLK: Tool = { program: "lsblk", package: "util-linux" };

interface Device {
  path: string;
  type: string;
  size: number;
  mountpoints: (string | null)[];
  children?: Device[];
}

export class DevicePool implements Pool {
  readonly kind = "device";
  readonly #devices: readonly string[];

  /** Paths of devices, best those in /dev/disk/by-id, which stay the same. */
  constructor(devices: readonly string[]) {
    this.#devices = devices;
  }

  /** Refuses devices that are in use. */
  async start(): Promise<void> {
    await this.volumes();
  }

  async stop(): Promise<void> {}

  async capacity(): Promise<Capacity> {
    return fullOf(await this.volumes());
  }

  /** Their names are their paths as they were given; a path of a multipath device leads to that. */
  async volumes(): Promise<Volume[]> {
    const found = flatten(await this.#tree());
    return await Promise.all(
      this.#devices.map(async (name) => {
        const real = await realpath(name).catch((cause: Error) => {
          throw new StorageError("STORAGE_OPEN", `${name}: there is no such device`, { cause });
        });
        const device = found.find(({ path }) => path === real);
        if (device === undefined) throw new StorageError("STORAGE_OPEN", `${name} is no block device`);
        const { path, size } = usable(name, device);
        return { name, path, format: "raw", sizeBytes: size, allocatedBytes: size };
      }),
    );
  }

  async create(): Promise<never> {
    return elsewhere("making a device", "it is one of the host's");
  }

  async clone(): Promise<never> {
    return elsewhere("cloning a device", "copy it with lodge image convert");
  }

  async resize(): Promise<never> {
    return elsewhere("resizing a device", "it has the size that it has");
  }

  async remove(): Promise<never> {
    return elsewhere("removing a device", "it is one of the host's");
  }

  async #tree(): Promise<Device[]> {
    // Without the column of names it lists them all beside each other.
    const output = await runJson(LSBLK, "--json", "--bytes", "--all", "--output", "NAME,PATH,TYPE,SIZE,MOUNTPOINTS");
    return (output as { blockdevices?: Device[] }).blockdevices ?? [];
  }
}

/** The device that a guest can have: itself, or the multipath device that goes by it; never one that the host uses. */
function usable(name: string, device: Device): Device {
  const above = device.children ?? [];
  const multipath = above.find(({ type }) => type === "mpath");
  if (multipath !== undefined) return usable(name, multipath);
  const mounts = [device, ...flatten(above)].flatMap(({ mountpoints }) => mountpoints.filter((one) => one !== null));
  if (mounts.length > 0)
    throw new StorageError("STORAGE_OPEN", `${name} is in use: it is mounted at ${mounts.join(", ")}`);
  const holder = above.find(({ type }) => type !== "part");
  if (holder !== undefined) {
    throw new StorageError("STORAGE_OPEN", `${name} is in use: ${holder.path} (${holder.type}) stands on it`);
  }
  return device;
}

function flatten(devices: readonly Device[]): Device[] {
  return devices.flatMap((device) => [device, ...flatten(device.children ?? [])]);
}
