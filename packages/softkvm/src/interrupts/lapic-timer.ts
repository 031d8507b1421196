/**
 * The local APIC's timer (Intel SDM vol. 3, 11.5.4). It owns no host timer: the processor's thread asks for the next
 * deadline and tells the time. All times are nanoseconds of the machine's monotonic clock.
 */

import { Reg, TimerMode, word } from "./lapic-registers.ts";
import { Lapic, type SharedArea, Vm } from "./shared-layout.ts";

export interface ApicClock {
  /** The monotonic clock in nanoseconds. */
  nowNs(): number;
  /** When the guest's time-stamp counter reaches a value; the past if it has. */
  tscToNs(tsc: bigint): number;
}

/** KVM's min_timer_period_us: faster periods would only load the host. */
const MIN_PERIOD_NS = 200_000;

export class LapicTimer {
  readonly #words: Int32Array;
  readonly #times: Float64Array;
  readonly #at: number;
  readonly #clock: ApicClock;

  constructor({ words, times }: SharedArea, at: number, clock: ApicClock) {
    this.#words = words;
    this.#times = times;
    this.#at = at;
    this.#clock = clock;
  }

  /** When it fires next, or Infinity. */
  get nextDeadline(): number {
    return this.#armed ? this.#expiry : Number.POSITIVE_INFINITY;
  }

  /** Whether it fires now. A periodic timer that was not asked for several periods fires once. */
  expire(now: number): boolean {
    if (!this.#armed || now < this.#expiry) return false;
    if (this.mode === TimerMode.PERIODIC && this.#period > 0) {
      const periods = Math.floor((now - this.#expiry) / this.#period) + 1;
      this.#expiry += periods * this.#period;
    } else {
      this.#armed = false;
      this.#setDeadline(0n);
    }
    return true;
  }

  get mode(): number {
    return this.#words[this.#at + Lapic.timerMode]!;
  }

  /** The LVT entry was written. Between counting and TSC deadlines, what ran is forgotten. */
  setMode(mode: number): void {
    const old = this.mode;
    if (old === mode) return;
    this.#words[this.#at + Lapic.timerMode] = mode;
    if ((old === TimerMode.TSC_DEADLINE) !== (mode === TimerMode.TSC_DEADLINE)) {
      this.#armed = false;
      this.#setRegister(Reg.TIMER_INITIAL, 0);
      this.#period = 0;
      this.#setDeadline(0n);
    } else {
      this.#limitPeriod();
    }
  }

  setInitialCount(count: number): void {
    if (this.mode === TimerMode.TSC_DEADLINE) return;
    this.#armed = false;
    this.#setRegister(Reg.TIMER_INITIAL, count);
    this.#startPeriod();
    if (this.#period > 0) this.#arm(this.#clock.nowNs() + this.#period);
  }

  /** What is left of the count. */
  currentCount(): number {
    if (this.mode === TimerMode.TSC_DEADLINE || this.#register(Reg.TIMER_INITIAL) === 0) return 0;
    if (!this.#armed || this.#period === 0) return 0;
    const left = Math.max(0, this.#expiry - this.#clock.nowNs()) % this.#period;
    return Math.floor(left / this.#tickNs) >>> 0;
  }

  setDivide(value: number): void {
    this.#setRegister(Reg.TIMER_DIVIDE, value & 0xb);
    const old = this.#divideCount;
    this.#updateDivideCount();
    if (this.#divideCount === old || !this.#armed || this.#period === 0) return;
    const now = this.#clock.nowNs();
    const left = Math.max(0, this.#expiry - now);
    this.#startPeriod();
    this.#arm(now + (left * this.#divideCount) / old);
  }

  /** IA32_TSC_DEADLINE (11.5.4.1). 0 disarms. */
  get deadline(): bigint {
    if (this.mode !== TimerMode.TSC_DEADLINE) return 0n;
    const at = this.#at + Lapic.deadlineLow;
    return BigInt(this.#words[at]! >>> 0) | (BigInt(this.#words[at + 1]! >>> 0) << 32n);
  }
  set deadline(tsc: bigint) {
    if (this.mode !== TimerMode.TSC_DEADLINE) return;
    this.#setDeadline(tsc);
    this.#armDeadline();
  }

  /** As after a reset: stopped, in the mode of a zeroed LVT. */
  reset(): void {
    this.#armed = false;
    this.setMode(TimerMode.ONE_SHOT);
    this.#setRegister(Reg.TIMER_INITIAL, 0);
    this.#setRegister(Reg.TIMER_DIVIDE, 0);
    this.#period = 0;
    this.#updateDivideCount();
  }

  /** The register page was replaced: goes on from its current count, or from the deadline as KVM does. */
  resume(mode: number): void {
    this.#armed = false;
    const count = this.#register(Reg.TIMER_CURRENT);
    this.#setRegister(Reg.TIMER_CURRENT, 0);
    this.setMode(mode);
    this.#updateDivideCount();
    if (mode === TimerMode.TSC_DEADLINE) {
      this.#armDeadline();
      return;
    }
    this.#startPeriod();
    if (this.#period === 0) return;
    // Count 0 of a one-shot: it ran out, and whether its interrupt was taken is not in the page. It fires (again).
    const ranOut = mode === TimerMode.PERIODIC ? this.#period : 0;
    const left = count === 0 ? ranOut : Math.min(count * this.#tickNs, this.#period);
    this.#arm(this.#clock.nowNs() + left);
  }

  get #armed(): boolean {
    return this.#words[this.#at + Lapic.timerArmed] !== 0;
  }
  set #armed(value: boolean) {
    this.#words[this.#at + Lapic.timerArmed] = value ? 1 : 0;
  }
  get #period(): number {
    return this.#times[(this.#at + Lapic.timerPeriod) / 2]!;
  }
  set #period(ns: number) {
    this.#times[(this.#at + Lapic.timerPeriod) / 2] = ns;
  }
  get #expiry(): number {
    return this.#times[(this.#at + Lapic.timerExpiry) / 2]!;
  }
  set #expiry(ns: number) {
    this.#times[(this.#at + Lapic.timerExpiry) / 2] = ns;
  }
  get #divideCount(): number {
    return this.#words[this.#at + Lapic.divideCount]!;
  }
  get #tickNs(): number {
    return this.#words[Vm.busCycleNs]! * this.#divideCount;
  }

  #register(offset: number): number {
    return this.#words[this.#at + word(offset)]! >>> 0;
  }
  #setRegister(offset: number, value: number): void {
    this.#words[this.#at + word(offset)] = value;
  }

  #arm(expiry: number): void {
    this.#expiry = expiry;
    this.#armed = true;
  }

  #armDeadline(): void {
    const tsc = this.deadline;
    this.#armed = false;
    if (tsc !== 0n) this.#arm(this.#clock.tscToNs(tsc));
  }

  #setDeadline(tsc: bigint): void {
    const at = this.#at + Lapic.deadlineLow;
    this.#words[at] = Number(tsc & 0xffffffffn);
    this.#words[at + 1] = Number((tsc >> 32n) & 0xffffffffn);
  }

  #startPeriod(): void {
    this.#period = this.#register(Reg.TIMER_INITIAL) * this.#tickNs;
    this.#limitPeriod();
  }

  #limitPeriod(): void {
    if (this.mode !== TimerMode.PERIODIC || this.#period === 0) return;
    this.#period = Math.max(this.#period, MIN_PERIOD_NS);
  }

  /** Divide configuration (11.5.4): bits 3, 1 and 0 are the exponent less one; 111 divides by 1. */
  #updateDivideCount(): void {
    const value = this.#register(Reg.TIMER_DIVIDE);
    const exponent = (((value & 3) | ((value & 8) >> 1)) + 1) & 7;
    this.#words[this.#at + Lapic.divideCount] = 1 << exponent;
  }
}
