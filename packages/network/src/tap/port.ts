/** A guest's card on a tap of the host: frames go through as they are, with what is still to be done to them. */

import { Interfaces } from "../host/interface.ts";
import type { MacvtapMode } from "../host/links.ts";
import { Poller } from "../host/poller.ts";
import type { GuestSide, Offload, PacketPort } from "../port.ts";
import { TapDevice } from "./device.ts";
import { macOf, macvtapPath, OwnMacvtap } from "./macvtap.ts";
import { adoptTap, closeTap, type OpenTap, openQueues, openTap } from "./open.ts";

const NOTHING: GuestSide["takes"] = { checksum: false, tcp4: false, tcp6: false, udp: false };

/** What a device has its cards have. */
interface CardOfTap {
  readonly mtu?: number;
  readonly mac?: string;
}

export class TapPort implements PacketPort, Disposable {
  readonly takesOffloads = true;
  readonly givesOffloads = true;
  readonly hasLargeDatagrams = true;
  /** What it is to be given frames by, from one queue of the guest's each. */
  readonly queues: number;
  /** The device's, where its cards have to have it: a bridge's, a macvtap's. */
  readonly mtu: number | undefined;
  /** The only address that a macvtap gives frames for. */
  readonly mac: string | undefined;
  readonly #poller: Poller;
  readonly #tap: TapDevice;
  readonly #resources: DisposableStack;
  #guest: GuestSide | undefined;
  /** What the kernel was last told that the guest takes. */
  #told = NOTHING;
  /** By queue: what the guest had no room for. */
  readonly #waiting: ({ frame: Uint8Array; offload: Offload | undefined } | undefined)[] = [];

  /** Has what was opened, and `owned`, from the beginning: also when it fails. `describe` is asked for what its cards have to have. */
  private constructor(tap: OpenTap, describe: (name: string) => CardOfTap = () => ({}), owned = new DisposableStack()) {
    using undo = owned;
    undo.defer(() => closeTap(tap));
    const { mtu, mac } = describe(tap.name);
    this.mtu = mtu;
    this.mac = mac;
    this.#poller = undo.use(new Poller());
    this.#tap = undo.use(new TapDevice(tap, this.#poller));
    this.queues = this.#tap.queues;
    this.#resources = undo.move();
  }

  /** A tap or macvtap of this name; a tap is made if there is no device of that name. Throws a `NetworkError`. */
  static open(name: string, queues = 1): TapPort {
    const path = macvtapPath(name);
    return path === undefined
      ? new TapPort(openTap(name, queues))
      : new TapPort(openQueues(`tap ${name}`, name, path, queues), ofMacvtap);
  }

  /** Taps that somebody else has opened, one for each queue; they are closed with this. */
  static adopt(fds: readonly number[]): TapPort {
    const tap = adoptTap(fds);
    return new TapPort(tap, macvtapPath(tap.name) === undefined ? undefined : ofMacvtap);
  }

  /** A macvtap on a device of the host's, which is deleted with this; after a crash, by the next. */
  static onDevice(lower: string, mode: MacvtapMode, mac: Uint8Array, queues = 1): TapPort {
    using undo = new DisposableStack();
    const { name, path } = undo.use(new OwnMacvtap(lower, mode, mac));
    return new TapPort(openQueues(`macvtap on ${lower}`, name, path, queues), ofMacvtap, undo.move());
  }

  /** A new port of a Linux bridge, which is gone when this is: also when this process is killed. */
  static onBridge(bridge: string, queues = 1): TapPort {
    using interfaces = new Interfaces();
    interfaces.checkBridge(bridge);
    return new TapPort(openTap("lodge%d", queues), (name) => ({ mtu: interfaces.addToBridge(bridge, name) }));
  }

  get name(): string {
    return this.#tap.name;
  }

  /** Of its queues, for who carries the guest's frames in this one's place; it is not connected to a device then. */
  get fds(): readonly number[] {
    return this.#tap.fds;
  }

  takeOffloads(takes: GuestSide["takes"]): void {
    this.#tap.takeOffloads(takes);
  }

  connect(guest: GuestSide): void {
    this.#guest = guest;
    this.#tap.onFrame((frame, offload, queue) => this.#deliver(frame, offload, queue));
  }

  transmit(frame: Uint8Array, offload?: Offload, queue = 0): void {
    this.#tell(this.#guest?.takes ?? NOTHING);
    this.#tap.send(frame, offload, queue);
  }

  usePairs(count: number): void {
    this.#tap.useQueues(count);
  }

  /** A driver that sends has said what it takes. */
  #tell(takes: GuestSide["takes"]): void {
    const { checksum, tcp4, tcp6, udp = false } = takes;
    const told = this.#told;
    if (told.checksum === checksum && told.tcp4 === tcp4 && told.tcp6 === tcp6 && told.udp === udp) return;
    this.#told = { checksum, tcp4, tcp6, udp };
    this.#tap.takeOffloads(this.#told);
  }

  #deliver(frame: Uint8Array, offload: Offload | undefined, queue: number): void {
    if (this.#guest?.receive(frame, offload, queue) !== false) return;
    this.#waiting[queue] = { frame: frame.slice(), offload };
    this.#tap.pause(queue);
  }

  room(): void {
    for (const [queue, one] of this.#waiting.entries()) {
      if (one === undefined || this.#guest?.receive(one.frame, one.offload, queue) === false) continue;
      this.#waiting[queue] = undefined;
      this.#tap.resume(queue);
    }
  }

  reset(): void {
    this.#tell(NOTHING);
    this.#waiting.length = 0;
    for (let queue = 0; queue < this.queues; queue++) this.#tap.resume(queue);
  }

  [Symbol.dispose](): void {
    this.#resources.dispose();
  }
}

function ofMacvtap(name: string): CardOfTap {
  using interfaces = new Interfaces();
  return { mtu: interfaces.mtu(name), mac: macOf(name) };
}
