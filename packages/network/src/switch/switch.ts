/**
 * A switch: frames go where their station was last heard, and everywhere while it was not. It knows nothing of how a port's
 * frames come and go; that is its owner's.
 */

import { Bucket } from "../bucket.ts";
import { type Clock, systemClock } from "../clock.ts";
import { Ethernet } from "../packet/ethernet.ts";
import type { Offload } from "../port.ts";
import { macNumber, Stations } from "./stations.ts";
import { comingIn, goingOut, type VlanRule } from "./vlan.ts";

/** Frames a second of one port that go to all: broadcasts, groups, stations not known. */
export const DEFAULT_FLOOD = 2000;
/** An IP packet of 64 KiB; some networks have a tag of their own before it. */
export const LONGEST_FRAME = 65535 + 18;
/** 01:80:c2:00:00:00 to 0f are between neighbours (IEEE 802.1D, 7.12.6). */
const NEIGHBOURS_ONLY = 0x0180c2000000;

export interface SwitchOptions {
  /** Frames a second that each port may send to all. Default: 2000. */
  readonly flood?: number;
  /** Default: the system's. */
  readonly clock?: Clock;
}

export interface PortOptions extends VlanRule {
  /** A frame for the port's machine, good until this returns. False: it was lost, because the machine is too slow. */
  readonly deliver: (frame: Uint8Array, offload: Offload | undefined) => boolean;
  /** Whether a frame of the machine's, without its tag, may go out. Default: all may. */
  readonly admits?: (frame: Uint8Array, vlan: number) => boolean;
}

/** What went through a port; `in` is from its machine. */
export interface PortCounters {
  framesIn: number;
  bytesIn: number;
  framesOut: number;
  bytesOut: number;
  /** From the machine: of a VLAN that is none of its. */
  foreignVlan: number;
  /** From the machine: more to all than one may send. */
  flooding: number;
  /** From the machine: with an address that is not its. */
  spoofed: number;
  /** For the machine, which was too slow. */
  lost: number;
}

export const NO_COUNTERS: Readonly<PortCounters> = {
  framesIn: 0,
  bytesIn: 0,
  framesOut: 0,
  bytesOut: 0,
  foreignVlan: 0,
  flooding: 0,
  spoofed: 0,
  lost: 0,
};

/** Whoever sees every frame that is let in. */
export type Tap = (frame: Uint8Array, offload: Offload | undefined) => void;

export class Switch {
  readonly #clock: Clock;
  readonly #flood: number;
  readonly #ports = new Set<SwitchPort>();
  readonly #stations = new Stations<SwitchPort>();
  readonly #taps = new Set<Tap>();

  constructor({ flood = DEFAULT_FLOOD, clock = systemClock }: SwitchOptions = {}) {
    this.#clock = clock;
    this.#flood = flood;
  }

  attach(options: PortOptions): SwitchPort {
    const bucket = new Bucket(this.#flood, this.#flood, this.#clock.now());
    const port: SwitchPort = new SwitchPort(options, {
      receive: (frame, offload) => this.#receive(port, bucket, frame, offload),
      detach: () => {
        this.#ports.delete(port);
        this.#stations.forget(port);
      },
    });
    this.#ports.add(port);
    return port;
  }

  /** Shows every frame that comes in, without its VLAN's tag, until the result is disposed of. */
  watch(tap: Tap): Disposable {
    this.#taps.add(tap);
    return { [Symbol.dispose]: () => this.#taps.delete(tap) };
  }

  /** The addresses that a port's machine was heard from. */
  stationsOf(port: SwitchPort): number[] {
    return this.#stations.of(port);
  }

  #receive(from: SwitchPort, flood: Bucket, given: Uint8Array, offload: Offload | undefined): void {
    const { counters } = from;
    counters.framesIn += 1;
    counters.bytesIn += given.length;
    if (given.length < Ethernet.LENGTH || given.length > LONGEST_FRAME) return;
    const tagged = comingIn(given, offload, from.options);
    if (tagged === undefined) {
      counters.foreignVlan += 1;
      return;
    }
    const { vlan, frame } = tagged;
    const source = macNumber(frame, Ethernet.SOURCE);
    const destination = macNumber(frame, Ethernet.DESTINATION);
    const now = this.#clock.now();
    // No station is a group; and what neighbours tell each other goes no further.
    if (frame[Ethernet.SOURCE]! & 1) return;
    if (destination >= NEIGHBOURS_ONLY && destination <= NEIGHBOURS_ONLY + 0xf) return;
    if (from.options.admits?.(frame, vlan) === false) {
      counters.spoofed += 1;
      return;
    }
    this.#stations.learn(vlan, source, from, now);
    const isGroup = (frame[Ethernet.DESTINATION]! & 1) !== 0;
    const to = isGroup ? undefined : this.#stations.find(vlan, destination, now);
    if (to === undefined && !flood.take(1, now)) {
      counters.flooding += 1;
      return;
    }
    for (const tap of this.#taps) tap(frame, tagged.offload);
    if (to === from) return;
    for (const port of to === undefined ? this.#ports : [to]) {
      if (port === from) continue;
      const leaving = goingOut(tagged, port.options);
      if (leaving !== undefined) port.deliver(leaving.frame, leaving.offload);
    }
  }
}

interface Owner {
  receive(frame: Uint8Array, offload: Offload | undefined): void;
  detach(): void;
}

export class SwitchPort implements Disposable {
  readonly options: PortOptions;
  readonly counters: PortCounters = { ...NO_COUNTERS };
  readonly #owner: Owner;

  constructor(options: PortOptions, owner: Owner) {
    this.options = options;
    this.#owner = owner;
  }

  /** A frame from the port's machine. */
  receive(frame: Uint8Array, offload?: Offload): void {
    this.#owner.receive(frame, offload);
  }

  /** The switch's own. */
  deliver(frame: Uint8Array, offload: Offload | undefined): void {
    if (!this.options.deliver(frame, offload)) {
      this.counters.lost += 1;
      return;
    }
    this.counters.framesOut += 1;
    this.counters.bytesOut += frame.length;
  }

  [Symbol.dispose](): void {
    this.#owner.detach();
  }
}
