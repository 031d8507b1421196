/** A virtio device without its transport (virtio 1.2, chapter 2). */

import type { GuestRam } from "../ram.ts";
import type { SavedState } from "../state.ts";
import type { Virtqueue } from "./queue/index.ts";

/** Device IDs (chapter 5). */
export const DeviceType = {
  NET: 1,
  BLOCK: 2,
  CONSOLE: 3,
  ENTROPY: 4,
  BALLOON: 5,
  P9: 9,
  VSOCK: 19,
  FS: 26,
  PMEM: 27,
} as const;
export type DeviceType = (typeof DeviceType)[keyof typeof DeviceType];

/** Feature bits that are not a device's own (chapter 6). The transport offers those it has; a device never names them. */
export const Feature = {
  INDIRECT_DESC: 1n << 28n,
  EVENT_IDX: 1n << 29n,
  VERSION_1: 1n << 32n,
  RING_PACKED: 1n << 34n,
  RING_RESET: 1n << 40n,
} as const;

/** What a device has of its driver, by way of the transport. The same object for the device's whole life. */
export interface DriverLink {
  /** The guest's memory, for what requests name besides their own buffers. */
  readonly ram: GuestRam;
  /** What the driver accepted; 0 while it has not started the device. */
  readonly features: bigint;
  /** It is of the time before virtio 1, for which some structures are others. */
  readonly isLegacy: boolean;
  /** The queues that the driver enabled, by number; none while the device is not started. */
  readonly queues: readonly (Virtqueue | undefined)[];
  /** Shows the driver what is in {@link VirtioDevice.config} now, and interrupts it if it has started the device. */
  configChanged(): void;
  /** The device cannot go on: DEVICE_NEEDS_RESET (2.1.2). */
  fail(reason: string): void;
}

/** A file that the guest has among its physical addresses, from its first byte on. */
export interface DeviceMemory {
  /** What it is called where something is wrong with it. */
  readonly name: string;
  /** Open, to be read and if it is `shared` to be written, until the machine has ended. */
  readonly fd: number;
  /** All of the file: whole pieces of {@link DEVICE_MEMORY_GRAIN}. */
  readonly sizeBytes: number;
  /** What the guest writes is the file's; otherwise the machine's own, and gone with it. */
  readonly shared: boolean;
}

/** In what steps a guest takes such memory: Linux makes page structures for 2 MiB at a time (SUBSECTION_SIZE). */
export const DEVICE_MEMORY_GRAIN = 2 ** 21;

/** Nobody there: what a device has before a transport takes it. */
const NOBODY: DriverLink = {
  ram: { slice: () => undefined, written: () => {} },
  features: 0n,
  isLegacy: false,
  queues: [],
  configChanged: () => {},
  fail: () => {},
};

/**
 * All of a device runs in one thread, the one that has the back ends. It takes from the guest what it has to bound
 * itself; it throws nothing.
 */
export abstract class VirtioDevice {
  abstract readonly type: DeviceType;
  /** Its own feature bits, as it offers them. */
  abstract readonly features: bigint;
  /** The most slots of each queue; as many queues as there are numbers. */
  abstract readonly queueSizes: readonly number[];
  /** The configuration space as it is now (2.5); empty for none. */
  abstract readonly config: Uint8Array;
  /** Which bytes of it the driver may write: from, up to. */
  readonly writableConfig: readonly [from: number, to: number] = [0, 0];
  /** The features of rings that it is offered with; changed only before a transport takes the device. */
  ringFeatures = Feature.INDIRECT_DESC | Feature.EVENT_IDX | Feature.RING_PACKED | Feature.RING_RESET;
  /** Drivers from before virtio 1 may have it as well, where there were such devices then. */
  readonly isTransitional: boolean = true;
  /** Memory of its own; a machine has room for it from its beginning on, or not at all. */
  readonly memory?: DeviceMemory;
  protected link: DriverLink = NOBODY;

  /** The machine has put {@link memory} there: said before a transport takes the device. */
  placed(_gpa: number): void {}

  /** The transport takes the device. */
  connect(link: DriverLink): void {
    this.link = link;
  }

  /**
   * A queue's doorbell, where it is an eventfd: true when the device has somebody else wait for it, who serves the queue in
   * this process's place. The device is told only of rings before it started, then. Said after each {@link connect}.
   */
  takeDoorbell(_queue: number, _eventfd: number): boolean {
    return false;
  }

  /** The driver has set everything up (DRIVER_OK); the link has its features and queues. */
  start(): void {}

  /** Something may be available in a queue. Said of each queue after a start. */
  abstract notified(queue: number): void;

  /** The driver wrote {@link config}. */
  configWritten(): void {}

  /**
   * The driver is gone: ends what is in flight, so that guest memory is no longer used once this is done. The device is
   * as if new afterwards, but for what belongs to its back end.
   */
  stop(): void | Promise<void> {}

  /** The same for one queue (2.6.1). */
  stopQueue(_queue: number): void | Promise<void> {}

  /** Leaves guest memory and the back end alone until {@link resume}: ends what is in flight, takes nothing new. */
  pause(): void | Promise<void> {}

  /** Goes on. Every queue is notified afterwards. */
  resume(): void {}

  /** What a device of the same configuration is constructed from, to go on as this one would. Only when paused. */
  abstract save(): SavedState;
}
