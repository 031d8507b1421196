/** Who serves a device's rings in the guest's memory, in this process's place: another process, or the kernel. */

import type { GuestRam } from "../../ram.ts";

/** A ring as a back end is given it. Its parts are places in the buffer that the guest's memory is. */
export interface Vring {
  readonly queue: number;
  readonly size: number;
  /** Where it goes on: the available ring's index. */
  readonly base: number;
  readonly descriptors: number;
  readonly available: number;
  readonly used: number;
  /** Eventfds: the driver rings, and the back end does. */
  readonly kick: number;
  readonly call: number;
}

export interface BackEnd extends Disposable {
  /** The device's and the rings' features that it has. */
  readonly features: bigint;
  /** Pairs of queues that it serves at most. */
  readonly pairs: number;
  /** The guest's memory has to be in a file. */
  readonly needsFile: boolean;
  /** Told once that it is gone, and why; at once when it is already. */
  onEnd(told: (why: string) => void): void;
  /** Gives it rings in this memory, for a driver that chose `features`; {@link enablePairs} has it serve them. */
  start(features: bigint, ram: GuestRam, rings: readonly Vring[]): Promise<void>;
  /** Which of its rings shall carry frames. */
  enablePairs(rings: readonly Vring[], pairs: number): void;
  /** Takes the rings back: it uses them no longer when this resolves. Returns where each goes on. */
  stop(rings: readonly Vring[]): Promise<number[]>;
  /** Tells it the largest packet, where it wants to know. */
  setMtu(mtu: number): void;
  /** Has it say on its network where this station is, for a driver that does not say so itself. */
  announce(mac: Uint8Array): void;
  end(why: string): void;
}
