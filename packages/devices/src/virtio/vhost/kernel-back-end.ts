/**
 * The kernel serves the rings of a card on a tap: vhost-net (linux/vhost.h, drivers/vhost/net.c). Each pair of queues has a
 * descriptor of /dev/vhost-net, a thread of the kernel's, and a queue of the tap.
 */

import { addressOf, Descriptor, io, ioctl, ior, iow, iowr, OpenFlag, open } from "@lodge/linux";
import type { GuestRam } from "../../ram.ts";
import { Feature } from "../device.ts";
import { NetFeature } from "../net/layout.ts";
import type { BackEnd, Vring } from "./back-end.ts";
import { memoryTable, vringAddress, vringState } from "./user-protocol.ts";

const PATH = "/dev/vhost-net";
const VHOST = 0xaf;
const Request = {
  GET_FEATURES: ior(VHOST, 0x00, 8),
  SET_FEATURES: iow(VHOST, 0x00, 8),
  SET_OWNER: io(VHOST, 0x01),
  SET_MEM_TABLE: iow(VHOST, 0x03, 8),
  SET_VRING_NUM: iow(VHOST, 0x10, 8),
  SET_VRING_ADDR: iow(VHOST, 0x11, 40),
  SET_VRING_BASE: iow(VHOST, 0x12, 8),
  GET_VRING_BASE: iowr(VHOST, 0x12, 8),
  SET_VRING_KICK: iow(VHOST, 0x20, 8),
  SET_VRING_CALL: iow(VHOST, 0x21, 8),
  NET_SET_BACKEND: iow(VHOST, 0x30, 8),
} as const;
const NOBODY = -1;

/** What the rings' server has to have of its own; what is to be done to frames is the tap's. */
const OF_RINGS = Feature.VERSION_1 | Feature.INDIRECT_DESC | Feature.EVENT_IDX | NetFeature.MRG_RXBUF;
const OF_TAPS =
  NetFeature.CSUM |
  NetFeature.HOST_TSO4 |
  NetFeature.HOST_TSO6 |
  NetFeature.HOST_ECN |
  NetFeature.GUEST_CSUM |
  NetFeature.GUEST_TSO4 |
  NetFeature.GUEST_TSO6 |
  NetFeature.GUEST_ECN;

/** A tap that nobody here reads. */
export interface ServedTap {
  /** Of its queues. */
  readonly fds: readonly number[];
  /** What the kernel may leave undone in the frames that it gives. */
  takeOffloads(takes: { readonly checksum: boolean; readonly tcp4: boolean; readonly tcp6: boolean }): void;
  usePairs(count: number): void;
}

export class KernelBackEnd implements BackEnd {
  readonly features: bigint;
  readonly pairs: number;
  readonly needsFile = false;
  readonly #tap: ServedTap;
  /** By pair. */
  readonly #files: readonly Descriptor[];
  readonly #has: bigint;

  /** Whether this kernel has it and this user may use it. */
  static get isThere(): boolean {
    try {
      new Descriptor(open(PATH, OpenFlag.RDWR)).close();
      return true;
    } catch {
      return false;
    }
  }

  /** Throws a `SystemError`. */
  constructor(tap: ServedTap) {
    this.#tap = tap;
    this.pairs = tap.fds.length;
    using undo = new DisposableStack();
    this.#files = tap.fds.map(() => undo.use(new Descriptor(open(PATH, OpenFlag.RDWR))));
    for (const { fd } of this.#files) ioctl(fd, Request.SET_OWNER, 0, "VHOST_SET_OWNER");
    const features = new BigUint64Array(1);
    ioctl(this.#files[0]!.fd, Request.GET_FEATURES, features, "VHOST_GET_FEATURES");
    this.#has = features[0]! & OF_RINGS;
    this.features = this.#has | OF_TAPS;
    undo.move();
  }

  /** It does not go away. */
  onEnd(): void {}

  async start(features: bigint, ram: GuestRam, rings: readonly Vring[]): Promise<void> {
    const { pieces = [] } = ram;
    const [first] = pieces;
    if (first === undefined) throw new Error("the guest's memory is nowhere that the kernel could find it");
    const address = addressOf(ram.slice(first.gpa, 1)!.buffer);
    const has = (feature: bigint) => (features & feature) !== 0n;
    this.#tap.takeOffloads({
      checksum: has(NetFeature.GUEST_CSUM),
      tcp4: has(NetFeature.GUEST_TSO4),
      tcp6: has(NetFeature.GUEST_TSO6),
    });
    const table = memoryTable({ pieces, address }, false);
    for (const { fd } of this.#files) {
      ioctl(fd, Request.SET_FEATURES, BigUint64Array.of(features & this.#has), "VHOST_SET_FEATURES");
      ioctl(fd, Request.SET_MEM_TABLE, table, "VHOST_SET_MEM_TABLE");
    }
    for (const ring of rings) {
      const { fd, index } = this.#placeOf(ring);
      const { descriptors, available, used } = ring;
      const parts = { descriptors: address + descriptors, available: address + available, used: address + used };
      ioctl(fd, Request.SET_VRING_NUM, vringState(index, ring.size), "VHOST_SET_VRING_NUM");
      ioctl(fd, Request.SET_VRING_BASE, vringState(index, ring.base), "VHOST_SET_VRING_BASE");
      ioctl(fd, Request.SET_VRING_ADDR, vringAddress(index, parts), "VHOST_SET_VRING_ADDR");
      ioctl(fd, Request.SET_VRING_CALL, Int32Array.of(index, ring.call), "VHOST_SET_VRING_CALL");
      ioctl(fd, Request.SET_VRING_KICK, Int32Array.of(index, ring.kick), "VHOST_SET_VRING_KICK");
    }
    for (const ring of rings) this.#connect(ring, this.#tap.fds[ring.queue >> 1]!);
  }

  enablePairs(_: readonly Vring[], pairs: number): void {
    this.#tap.usePairs(pairs);
  }

  async stop(rings: readonly Vring[]): Promise<number[]> {
    for (const ring of rings) this.#connect(ring, NOBODY);
    return rings.map((ring) => {
      const { fd, index } = this.#placeOf(ring);
      const state = vringState(index, 0);
      ioctl(fd, Request.GET_VRING_BASE, state, "VHOST_GET_VRING_BASE");
      return new DataView(state.buffer).getUint16(4, true);
    });
  }

  /** To a queue of the tap, or to nobody; the kernel uses the ring no longer then when this returns. */
  #connect(ring: Vring, tap: number): void {
    const { fd, index } = this.#placeOf(ring);
    ioctl(fd, Request.NET_SET_BACKEND, Int32Array.of(index, tap), "VHOST_NET_SET_BACKEND");
  }

  #placeOf({ queue }: Vring): { fd: number; index: number } {
    return { fd: this.#files[queue >> 1]!.fd, index: queue & 1 };
  }

  /** The tap's is the network's that it is in. */
  setMtu(): void {}

  /** Drivers say so themselves. */
  announce(): void {}

  end(): void {
    for (const file of this.#files) file.close();
  }

  [Symbol.dispose](): void {
    this.end();
  }
}
