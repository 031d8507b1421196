/** A guest's card on a tap of the host: frames go through as they are, with what is still to be done to them. */

import { Interfaces } from "../host/interface.ts";
import { Poller } from "../host/poller.ts";
import type { GuestSide, Offload, PacketPort } from "../port.ts";
import { TapDevice } from "./device.ts";

const NOTHING: GuestSide["takes"] = { checksum: false, tcp4: false, tcp6: false };

export class TapPort implements PacketPort, Disposable {
  readonly takesOffloads = true;
  readonly givesOffloads = true;
  readonly #poller = new Poller();
  readonly #tap: TapDevice;
  #guest: GuestSide | undefined;
  /** What the kernel was last told that the guest takes. */
  #told = NOTHING;
  /** What the guest had no room for. */
  #waiting: { frame: Uint8Array; offload: Offload | undefined } | undefined;

  /** The bridge's, where it is a port of one. */
  readonly mtu: number | undefined;

  /** Opens the tap of this name, and makes it if there is none. Throws a `NetworkError`. */
  constructor(name: string, bridge?: string) {
    using interfaces = new Interfaces();
    let tap: TapDevice | undefined;
    try {
      if (bridge !== undefined) interfaces.checkBridge(bridge);
      tap = new TapDevice(name, this.#poller);
      this.#tap = tap;
      if (bridge !== undefined) this.mtu = interfaces.addToBridge(bridge, tap.name);
    } catch (error) {
      tap?.[Symbol.dispose]();
      this.#poller[Symbol.dispose]();
      throw error;
    }
  }

  /** A new port of a Linux bridge, which is gone when this is: also when this process is killed. */
  static onBridge(bridge: string): TapPort {
    return new TapPort("lodge%d", bridge);
  }

  get name(): string {
    return this.#tap.name;
  }

  connect(guest: GuestSide): void {
    this.#guest = guest;
    this.#tap.onFrame((frame, offload) => this.#deliver(frame, offload));
  }

  transmit(frame: Uint8Array, offload?: Offload): void {
    this.#tell(this.#guest?.takes ?? NOTHING);
    this.#tap.send(frame, offload);
  }

  /** A driver that sends has said what it takes. */
  #tell(takes: GuestSide["takes"]): void {
    const { checksum, tcp4, tcp6 } = this.#told;
    if (takes.checksum === checksum && takes.tcp4 === tcp4 && takes.tcp6 === tcp6) return;
    this.#told = { checksum: takes.checksum, tcp4: takes.tcp4, tcp6: takes.tcp6 };
    this.#tap.takeOffloads(this.#told);
  }

  #deliver(frame: Uint8Array, offload?: Offload): void {
    if (this.#guest?.receive(frame, offload) !== false) return;
    this.#waiting = { frame: frame.slice(), offload };
    this.#tap.pause();
  }

  room(): void {
    const { frame, offload } = this.#waiting ?? {};
    if (frame !== undefined && this.#guest?.receive(frame, offload) === false) return;
    this.#waiting = undefined;
    this.#tap.resume();
  }

  reset(): void {
    this.#tell(NOTHING);
    this.#waiting = undefined;
    this.#tap.resume();
  }

  [Symbol.dispose](): void {
    this.#tap[Symbol.dispose]();
    this.#poller[Symbol.dispose]();
  }
}
