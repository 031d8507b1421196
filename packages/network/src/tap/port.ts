/** A guest's card on a tap of the host: frames go through as they are, with what is still to be done to them. */

import { Interfaces } from "../host/interface.ts";
import type { MacvtapMode } from "../host/links.ts";
import { Poller } from "../host/poller.ts";
import type { GuestSide, Offload, PacketPort } from "../port.ts";
import { TapDevice } from "./device.ts";
import { macOf, macvtapPath, OwnMacvtap } from "./macvtap.ts";
import { adoptTap, closeTap, type OpenTap, openQueues, openTap } from "./open.ts";

const NOTHING: GuestSide["takes"] = { checksum: false, tcp4: false, tcp6: false, udp: false };

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

  private constructor(tap: OpenTap, owned: DisposableStack, { mtu, mac }: { mtu?: number; mac?: string } = {}) {
    this.#poller = owned.use(new Poller());
    this.#tap = owned.use(new TapDevice(tap, this.#poller));
    this.#resources = owned;
    this.queues = this.#tap.queues;
    this.mtu = mtu;
    this.mac = mac;
  }

  /** A tap or macvtap of this name; a tap is made if there is no device of that name. Throws a `NetworkError`. */
  static open(name: string, queues = 1): TapPort {
    const path = macvtapPath(name);
    if (path === undefined) return new TapPort(openTap(name, queues), new DisposableStack());
    return TapPort.#ofMacvtap(openQueues(`tap ${name}`, name, path, queues), new DisposableStack());
  }

  /** Taps that somebody else has opened, one for each queue; they are closed with this. */
  static adopt(fds: readonly number[]): TapPort {
    const tap = adoptTap(fds);
    return macvtapPath(tap.name) === undefined
      ? new TapPort(tap, new DisposableStack())
      : TapPort.#ofMacvtap(tap, new DisposableStack());
  }

  /** A macvtap on a device of the host's, which is deleted with this; after a crash, by the next. */
  static onDevice(lower: string, mode: MacvtapMode, mac: Uint8Array, queues = 1): TapPort {
    using undo = new DisposableStack();
    const { name, path } = undo.use(new OwnMacvtap(lower, mode, mac));
    return TapPort.#ofMacvtap(openQueues(`macvtap on ${lower}`, name, path, queues), undo.move());
  }

  /** A new port of a Linux bridge, which is gone when this is: also when this process is killed. */
  static onBridge(bridge: string, queues = 1): TapPort {
    using interfaces = new Interfaces();
    interfaces.checkBridge(bridge);
    const tap = openTap("lodge%d", queues);
    try {
      return new TapPort(tap, new DisposableStack(), { mtu: interfaces.addToBridge(bridge, tap.name) });
    } catch (error) {
      closeTap(tap);
      throw error;
    }
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

  static #ofMacvtap(tap: OpenTap, owned: DisposableStack): TapPort {
    using undo = owned;
    undo.defer(() => closeTap(tap));
    using interfaces = new Interfaces();
    const device = { mtu: interfaces.mtu(tap.name), mac: macOf(tap.name) };
    return new TapPort(tap, undo.move(), device);
  }
}
