/**
 * kvmclock (Documentation/virt/kvm/x86/msr.rst): a page of guest memory from which the guest computes nanoseconds out of
 * its TSC. All vCPUs share one TSC and one clock here, so the page says it is stable and changes only when the clock is
 * set.
 */

import type { SoftVcpu } from "./vcpu.ts";

/** MSR_KVM_*: the numbers in use today and those of old guests. */
export const KvmMsr = {
  WALL_CLOCK_OLD: 0x11,
  SYSTEM_TIME_OLD: 0x12,
  WALL_CLOCK: 0x4b564d00,
  SYSTEM_TIME: 0x4b564d01,
} as const;

/** struct pvclock_vcpu_time_info. */
const Info = { version: 0, tscTimestamp: 8, systemTime: 16, multiplier: 24, shift: 28, flags: 29, size: 32 } as const;
/** PVCLOCK_TSC_STABLE_BIT and PVCLOCK_GUEST_STOPPED. */
const STABLE = 1;
const STOPPED = 2;
const ENABLED = 1n;

export class KvmClock {
  systemTime = 0n;
  wallClock = 0n;
  readonly #vcpu: SoftVcpu;
  #stopped = false;
  #version = 0;
  /** Which setting of the machine's clock the page shows. */
  #setting = 0;

  constructor(vcpu: SoftVcpu) {
    this.#vcpu = vcpu;
  }

  setSystemTime(value: bigint): void {
    this.systemTime = value;
    this.update();
  }

  /** The guest asks once for the time at which its clock was 0. */
  setWallClock(value: bigint): void {
    this.wallClock = value;
    // 0 asks for nothing, as in KVM.
    const at = value === 0n ? -1 : this.#place(Number(value), 12);
    if (at < 0) return;
    const { clock } = this.#vcpu.vm;
    const bootMs = performance.timeOrigin + performance.now() - clock.guestNs() / 1e6;
    const { view } = this.#vcpu.core.state;
    view.setUint32(at, 2, true);
    view.setUint32(at + 4, Math.floor(bootMs / 1000), true);
    view.setUint32(at + 8, Math.floor((bootMs % 1000) * 1e6), true);
  }

  /** The guest's watchdogs shall not mind the pause. False when the guest has no kvmclock. */
  notePaused(): boolean {
    if (!(this.systemTime & ENABLED)) return false;
    this.#stopped = true;
    this.update();
    return true;
  }

  /** The clock may have been set since the guest ran: its page follows. */
  catchUp(): void {
    if (this.#setting === this.#vcpu.vm.record.clockSettings) return;
    this.update();
  }

  /** Writes the page anew. */
  update(): void {
    if (!(this.systemTime & ENABLED)) return;
    const at = this.#place(Number(this.systemTime & ~ENABLED), Info.size);
    if (at < 0) return;
    const { clock, record } = this.#vcpu.vm;
    this.#setting = record.clockSettings;
    const { view } = this.#vcpu.core.state;
    const { multiplier, shift } = scaleOf(record.tscKhz);
    // Odd while it changes; readers try again.
    this.#version = (this.#version + 2) | 1;
    view.setUint32(at + Info.version, this.#version, true);
    view.setBigUint64(at + Info.tscTimestamp, BigInt.asUintN(64, this.#vcpu.msrs.readTsc()), true);
    view.setBigUint64(at + Info.systemTime, BigInt(Math.max(0, Math.floor(clock.guestNs()))), true);
    view.setUint32(at + Info.multiplier, multiplier, true);
    view.setInt8(at + Info.shift, shift);
    view.setUint8(at + Info.flags, STABLE | (this.#stopped ? STOPPED : 0));
    this.#version += 1;
    view.setUint32(at + Info.version, this.#version, true);
    this.#stopped = false;
  }

  /** Where guest physical memory lies, if all of it does; else -1. */
  #place(gpa: number, size: number): number {
    const { map } = this.#vcpu.vm;
    if (gpa % 4096 > 4096 - size || !map.lookup(gpa)) return -1;
    return map.offset;
  }
}

/** Nanoseconds are ((ticks << shift) * multiplier) >> 32. */
function scaleOf(tscKhz: number): { multiplier: number; shift: number } {
  let ratio = 1e6 / tscKhz;
  let shift = 0;
  for (; ratio < 0.5; ratio *= 2) shift--;
  for (; ratio >= 1; ratio /= 2) shift++;
  return { multiplier: Math.min(0xffffffff, Math.round(ratio * 2 ** 32)), shift };
}
