/** Linux's own network stack as a guest, without a machine around it: a tap whose other end is in a host of the test's. */

import { Poller } from "../src/host/poller.ts";
import type { GuestSide, Offload, PacketPort } from "../src/port.ts";
import { TapDevice } from "../src/tap/device.ts";
import { openTap } from "../src/tap/open.ts";
import { Host } from "./namespaces.ts";
import { GOOD_WIRE, type Quality, Wire } from "./wire.ts";

export interface KernelGuestOptions {
  /** Whether frames go with checksums to be made and segments to be cut. Default: true. */
  readonly offloads?: boolean;
  readonly quality?: Quality;
  /** Default: 52:54:00:12:34:56. */
  readonly mac?: string;
}

export class KernelGuest implements AsyncDisposable {
  readonly host: Host;
  readonly wire: Wire;
  /** What its driver takes; may be changed. */
  readonly takes: { udp: boolean };
  readonly #poller: Poller;
  readonly #tap: TapDevice;

  private constructor(host: Host, poller: Poller, tap: TapDevice, wire: Wire, takes: { udp: boolean }) {
    this.host = host;
    this.takes = takes;
    this.#poller = poller;
    this.#tap = tap;
    this.wire = wire;
  }

  /** Its device is `eth0`, up, without an address. */
  static async make(
    port: PacketPort,
    { offloads = true, quality = GOOD_WIRE, mac = "52:54:00:12:34:56" }: KernelGuestOptions = {},
  ): Promise<KernelGuest> {
    const host = await Host.make();
    const poller = new Poller();
    const tap = new TapDevice(openTap("guest%d"), poller);
    host.take(tap.name);
    const takes = { checksum: offloads, tcp4: offloads, tcp6: offloads, udp: offloads };
    tap.takeOffloads(takes);
    await host.do("ip", "link", "set", tap.name, "name", "eth0", "address", mac, "mtu", "1500", "up");
    const wire = new Wire(quality);
    const side: GuestSide = {
      takes,
      receive: (frame: Uint8Array, offload?: Offload) => {
        wire.carry(frame, offload, (carried, what) => tap.send(carried, what));
        return true;
      },
    };
    port.connect(side);
    tap.onFrame((frame, offload) => wire.carry(frame, offload, (carried, what) => port.transmit(carried, what)));
    return new KernelGuest(host, poller, tap, wire, takes);
  }

  /** Gives it the address that the first guest of a NAT has, without asking for it. */
  async configure(): Promise<void> {
    await this.host.do("ip", "address", "add", "10.0.2.15/24", "dev", "eth0");
    await this.host.do("ip", "route", "add", "default", "via", "10.0.2.2");
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.wire[Symbol.dispose]();
    this.#tap[Symbol.dispose]();
    this.#poller[Symbol.dispose]();
    await this.host[Symbol.asyncDispose]();
  }
}
