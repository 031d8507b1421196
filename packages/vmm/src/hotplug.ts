/** Disks and network cards that come while the guest runs, and those that go. The guest is asked to let go, and may not. */

import type { VirtioDevice } from "@lodge/devices";
import { checkNetworks, type NetworkOptions } from "./configuration/networks.ts";
import type { AttachedDisk } from "./disks/attached-disk.ts";
import { checkDisks, type DiskOptions } from "./disks/options.ts";
import { VmmError } from "./errors.ts";
import type { Hardware } from "./hardware.ts";
import type { Life } from "./life.ts";
import type { AttachedNetwork } from "./network.ts";

export type Pluggable = AttachedDisk | AttachedNetwork;

/** QEMU's names of devices. */
const ID = /^[A-Za-z][A-Za-z0-9_.-]{0,63}$/;

export interface HotplugWires {
  readonly hardware: Hardware;
  readonly life: Life;
  /** Has a disk tell the machine what becomes of it. */
  readonly follow: (disk: AttachedDisk) => void;
}

export class Hotplug implements AsyncDisposable {
  readonly #wires: HotplugWires;
  /** Names of what is being opened. */
  readonly #coming = new Set<string>();
  /** What the guest was asked to let go of, and who waits for that. */
  readonly #leaving = new Map<VirtioDevice, PromiseWithResolvers<void>>();
  readonly #closing = new Set<Promise<void>>();

  constructor(wires: HotplugWires) {
    this.#wires = wires;
  }

  plugDisk(options: DiskOptions, id?: string): Promise<AttachedDisk> {
    const { hardware, follow } = this.#wires;
    checkDisks([...hardware.disks.map(({ file, serial }) => ({ file, ...(serial && { serial }) })), options]);
    return this.#plug(id, "disk", hardware.disks, async (name) => {
      const disk = await hardware.openDisk(options, name);
      follow(disk);
      return disk;
    });
  }

  plugNetwork(options: NetworkOptions, id?: string): Promise<AttachedNetwork> {
    const { hardware } = this.#wires;
    if (options.mode === "vhost-user") {
      const why = "it needs memory that others see, which is made at the machine's start: give it the card there";
      throw new VmmError("VMM_CONFIG", `a card of mode vhost-user is not plugged in: ${why}`);
    }
    const others = hardware.networks.map((card): NetworkOptions => ({ ...card.options, mac: card.mac }));
    checkNetworks([...others, options]);
    return this.#plug(id, "net", hardware.networks, (name) => hardware.openNetwork(options, name));
  }

  async #plug<T extends Pluggable>(
    wanted: string | undefined,
    kind: string,
    list: T[],
    open: (id: string) => Promise<T>,
  ): Promise<T> {
    const { hardware, life } = this.#wires;
    const id = wanted ?? this.#freeName(kind);
    this.#checkName(id);
    this.#coming.add(id);
    try {
      await using undo = new AsyncDisposableStack();
      const one = undo.use(await open(id));
      const slot = await life.pc.plug(one.device);
      hardware.slots[slot - 1] = one.device;
      list.push(one);
      undo.move();
      return one;
    } finally {
      this.#coming.delete(id);
    }
  }

  /** Asks the guest to let go; resolves when it has, and what was behind the device is closed. Asking again is no harm. */
  unplug(one: Pluggable): Promise<void> {
    const { hardware, life } = this.#wires;
    const { disks, networks } = hardware;
    const disk = disks.find((other) => other === one);
    if (disk === undefined && !networks.some((other) => other === one)) {
      throw new VmmError("VMM_CONFIG", `${one.id} is no device of this machine any more`);
    }
    if (disk?.jobs.current !== undefined) {
      throw new VmmError("VMM_CONFIG", `${disk.id}: a block job works on it; cancel that first, or let it end`);
    }
    life.pc.unplug(one.device);
    const waiting = this.#leaving.get(one.device) ?? Promise.withResolvers<void>();
    this.#leaving.set(one.device, waiting);
    return waiting.promise;
  }

  /** The guest has let go. */
  unplugged(device: VirtioDevice): void {
    const closing = this.#close(device).finally(() => this.#closing.delete(closing));
    this.#closing.add(closing);
  }

  /** The guest begins anew, without what it was asked to let go of. */
  resetting(): void {
    for (const device of [...this.#leaving.keys()]) this.unplugged(device);
  }

  /** The machine has ended: nobody lets go any more. */
  end(why: VmmError): void {
    for (const { reject } of this.#leaving.values()) reject(why);
    this.#leaving.clear();
  }

  async #close(device: VirtioDevice): Promise<void> {
    const { hardware, life } = this.#wires;
    const { slots, disks, networks } = hardware;
    const waiting = this.#leaving.get(device);
    this.#leaving.delete(device);
    const one = [...disks, ...networks].find((other) => other.device === device);
    if (one === undefined) return;
    slots[slots.indexOf(device)] = undefined;
    for (const list of [disks, networks] as Pluggable[][]) {
      if (list.includes(one)) list.splice(list.indexOf(one), 1);
    }
    try {
      await one[Symbol.asyncDispose]();
    } catch (error) {
      hardware.onTrouble(`${one.id}, which the guest has let go of: ${error instanceof Error ? error.message : error}`);
    }
    life.tell({ event: "unplugged", id: one.id });
    waiting?.resolve();
  }

  #freeName(kind: string): string {
    let number = 0;
    while (this.#isTaken(`${kind}${number}`)) number += 1;
    return `${kind}${number}`;
  }

  #checkName(id: string): void {
    if (!ID.test(id)) {
      throw new VmmError(
        "VMM_CONFIG",
        `device ${JSON.stringify(id)}: a letter, then letters, digits, dots, hyphens and underscores`,
      );
    }
    if (this.#isTaken(id)) throw new VmmError("VMM_CONFIG", `there is a device ${id} already`);
  }

  #isTaken(id: string): boolean {
    const { disks, networks } = this.#wires.hardware;
    return this.#coming.has(id) || [...disks, ...networks].some((one) => one.id === id);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await Promise.all(this.#closing);
  }
}
