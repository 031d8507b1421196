/** Time in a machine: the host's, the kvmclock's and the time-stamp counter's. */

import { type ClockData, ClockFlag } from "@lodge/kvm";
import type { VmRecord } from "./vm-record.ts";

/** What the TSC counts in a second, until told otherwise: near to today's processors, and round. */
export const DEFAULT_TSC_KHZ = 2_500_000;

/** Guests ask for the time all the time; the getter takes as long as the clock. */
const ORIGIN_MS = performance.timeOrigin;

/** Milliseconds of the wall clock with the resolution of the monotonic one; the same in every thread. */
function hostMs(): number {
  return ORIGIN_MS + performance.now();
}

export class MachineClock {
  readonly #record: VmRecord;

  constructor(record: VmRecord) {
    this.#record = record;
  }

  /** The machine begins. */
  begin(): void {
    this.#record.clockOrigin = hostMs();
    this.#record.tscKhz = DEFAULT_TSC_KHZ;
  }

  /** Nanoseconds since the machine began: what timers go by. Never set back. */
  hostNs(): number {
    return (hostMs() - this.#record.clockOrigin) * 1e6;
  }

  /** The kvmclock in nanoseconds: host time, moved by KVM_SET_CLOCK. */
  guestNs(): number {
    return this.hostNs() + this.#record.clockOffsetNs;
  }

  get(): ClockData {
    return {
      clock: BigInt(Math.max(0, Math.floor(this.guestNs()))),
      flags: ClockFlag.TSC_STABLE | ClockFlag.REALTIME | ClockFlag.HOST_TSC,
      realtime: BigInt(Math.floor(hostMs() * 1e3)) * 1000n,
      hostTsc: this.ticks(),
    };
  }

  set({ clock, flags, realtime }: ClockData): void {
    // With REALTIME the clock goes on by what passed since it was read.
    const passed = flags & ClockFlag.REALTIME ? Math.max(0, hostMs() * 1e6 - Number(realtime)) : 0;
    this.#record.clockOffsetNs = Number(clock) + passed - this.hostNs();
  }

  /** The TSC as it would be without any offset. */
  ticks(): bigint {
    return BigInt(this.wholeTicks());
  }

  /** The same as a float, for compiled code. */
  wholeTicks(): number {
    return Math.floor((this.hostNs() * this.#record.tscKhz) / 1e6);
  }

  /** When {@link ticks} reaches a value, in {@link hostNs}. */
  ticksToNs(ticks: bigint): number {
    return (Number(ticks) * 1e6) / this.#record.tscKhz;
  }
}
