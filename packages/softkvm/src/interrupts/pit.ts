/**
 * The 8254 interval timer (Intel datasheet 231164) and port 0x61. Used with the machine's lock held. It owns no host
 * timer: whichever processor's thread notices first that {@link nextDeadline} has passed calls {@link expire}.
 *
 * As KVM has it: channel 0 counts by its timer, the others from when they were loaded; a gate matters to channel 2; the
 * null count bit stays 0. Unlike KVM, a channel in BCD counts in BCD.
 */

import type { PitState } from "@lodge/kvm";
import { Pit as At, PitPresence, PitWord, type SharedArea } from "./shared-layout.ts";

export const PIT_HZ = 1_193_182;
const CHANNELS = 3;
const COMMAND_PORT = 3;
/** KVM's min_timer_period_us. */
const MIN_PERIOD_NS = 200_000;

/** Ticks that are made up for; KVM has no bound. */
const MAX_PENDING = 1000;

/** Control word (page 7): channel, access, mode, BCD. */
const READ_BACK = 3;
const ReadBack = { NO_COUNT: 0x20, NO_STATUS: 0x10 } as const;
const LATCH = 0;

/** Access modes, which are also the states of a byte-wise access: low, high, low then high. */
const Access = { LOW: 1, HIGH: 2, LOW_NEXT: 3, HIGH_NEXT: 4 } as const;

/** A new machine's channels are in no mode. */
const NO_MODE = 0xff;

/** `PitState.flags`. HPET_LEGACY: an HPET took channel 0's place. */
const Flag = { HPET_LEGACY: 1, SPEAKER_DATA_ON: 2 } as const;

/** System control port B, 0x61. */
const PortB = { GATE: 1, SPEAKER: 2, REFRESH_SHIFT: 4, OUT_SHIFT: 5 } as const;
/** The refresh bit toggles about every 15 µs. */
const REFRESH_NS = 2 ** 14;

export interface PitPorts {
  nowNs(): number;
  /** One edge on GSI 0, and on LINT0 where that is a watchdog's NMI. */
  tick(): void;
}

export class Pit {
  readonly #words: Int32Array;
  readonly #times: Float64Array;
  readonly #ports: PitPorts;

  constructor({ words, times }: SharedArea, ports: PitPorts) {
    this.#words = words;
    this.#times = times;
    this.#ports = ports;
  }

  /** Needs no lock, like {@link hasSpeaker}. */
  get isPresent(): boolean {
    return this.#words[At.present] !== PitPresence.NONE;
  }
  get hasSpeaker(): boolean {
    return this.#words[At.present] === PitPresence.WITH_SPEAKER;
  }

  /** Power on. */
  create(speaker: boolean): void {
    this.#words.fill(0, At.present, At.end);
    this.#words[At.reinject] = 1;
    for (let channel = 0; channel < CHANNELS; channel++) {
      this.#set(channel, PitWord.mode, NO_MODE);
      this.#set(channel, PitWord.gate, channel === 2 ? 0 : 1);
      this.#load(channel, 0);
    }
    this.forgetLostTicks();
    this.#words[At.present] = speaker ? PitPresence.WITH_SPEAKER : PitPresence.PLAIN;
  }

  /** Reads port 0x40 + `port`. */
  read(port: number): number {
    if (port === COMMAND_PORT) return 0;
    if (this.#get(port, PitWord.statusLatched) !== 0) {
      this.#set(port, PitWord.statusLatched, 0);
      return this.#get(port, PitWord.status);
    }
    const latched = this.#get(port, PitWord.countLatched);
    if (latched !== 0) {
      this.#set(port, PitWord.countLatched, latched === Access.LOW_NEXT ? Access.HIGH : 0);
      const count = this.#get(port, PitWord.latchedCount);
      return (latched === Access.HIGH ? count >> 8 : count) & 0xff;
    }
    const state = this.#get(port, PitWord.readState);
    const count = this.#count(port);
    if (state === Access.LOW_NEXT) this.#set(port, PitWord.readState, Access.HIGH_NEXT);
    if (state === Access.HIGH_NEXT) this.#set(port, PitWord.readState, Access.LOW_NEXT);
    return (state === Access.HIGH || state === Access.HIGH_NEXT ? count >> 8 : count) & 0xff;
  }

  write(port: number, value: number): void {
    if (port === COMMAND_PORT) {
      this.#command(value);
      return;
    }
    switch (this.#get(port, PitWord.writeState)) {
      case Access.HIGH:
        this.#load(port, value << 8);
        return;
      case Access.LOW_NEXT:
        this.#set(port, PitWord.writeLatch, value);
        this.#set(port, PitWord.writeState, Access.HIGH_NEXT);
        return;
      case Access.HIGH_NEXT:
        this.#load(port, this.#get(port, PitWord.writeLatch) | (value << 8));
        this.#set(port, PitWord.writeState, Access.LOW_NEXT);
        return;
      default:
        this.#load(port, value);
    }
  }

  readPortB(): number {
    const speaker = (this.#words[At.flags]! & Flag.SPEAKER_DATA_ON) !== 0 ? PortB.SPEAKER : 0;
    const refresh = Math.floor(this.#ports.nowNs() / REFRESH_NS) & 1;
    const out = this.#out(2) ? 1 : 0;
    const gate = this.#get(2, PitWord.gate) & PortB.GATE;
    return gate | speaker | (refresh << PortB.REFRESH_SHIFT) | (out << PortB.OUT_SHIFT);
  }

  writePortB(value: number): void {
    const flags = this.#words[At.flags]! & ~Flag.SPEAKER_DATA_ON;
    this.#words[At.flags] = flags | ((value & PortB.SPEAKER) !== 0 ? Flag.SPEAKER_DATA_ON : 0);
    this.#setGate(2, value & PortB.GATE);
  }

  /** When channel 0 ticks next, or Infinity. Needs no lock: {@link expire} looks again. */
  get nextDeadline(): number {
    return this.#words[At.armed] !== 0 ? this.#times[At.expiry / 2]! : Number.POSITIVE_INFINITY;
  }

  expire(now: number): void {
    if (now < this.nextDeadline) return;
    const period = this.#times[At.period / 2]!;
    let ticks = 1;
    if (this.#words[At.periodic] !== 0 && period > 0) {
      ticks += Math.floor((now - this.nextDeadline) / period);
      this.#times[At.expiry / 2]! += ticks * period;
    } else {
      this.#words[At.armed] = 0;
    }
    if (this.#words[At.reinject] !== 0) {
      this.#words[At.pending] = Math.min(this.#words[At.pending]! + ticks, MAX_PENDING);
    }
    this.#tick();
  }

  /** The guest ended the tick's interrupt: the next of those that it missed follows. */
  acknowledged(): void {
    if (!this.reinjects) return;
    this.#words[At.acknowledged] = 1;
    const pending = this.#words[At.pending]!;
    if (pending > 0) this.#words[At.pending] = pending - 1;
    if (pending > 1) this.#tick();
  }

  /** Whether ticks that the guest missed are made up for, which takes to hear of their ends. */
  get reinjects(): boolean {
    return this.isPresent && this.#words[At.reinject] !== 0;
  }

  /** KVM_REINJECT_CONTROL (api.rst 4.24.1): whether missed ticks are made up for. */
  setReinject(on: boolean): void {
    if ((this.#words[At.reinject] !== 0) === on) return;
    this.#words[At.reinject] = on ? 1 : 0;
    this.forgetLostTicks();
  }

  /** The guest unmasked the timer, or set it anew: ticks from before do not count. */
  forgetLostTicks(): void {
    this.#words[At.pending] = 0;
    this.#words[At.acknowledged] = 1;
  }

  getState(): PitState {
    return {
      channels: Array.from({ length: CHANNELS }, (_, channel) => ({
        ...(Object.fromEntries(FIELDS.map((field) => [field, this.#get(channel, PitWord[field])])) as ChannelFields),
        count: this.#get(channel, PitWord.count) >>> 0,
        countLoadTime: BigInt(Math.trunc(this.#loadTime(channel))),
      })),
      flags: this.#words[At.flags]! >>> 0,
    };
  }

  /** Becomes what was saved; counting begins anew, as KVM does it. */
  setState(state: PitState): void {
    const hpetTakesOver = (state.flags & Flag.HPET_LEGACY & ~this.#words[At.flags]!) !== 0;
    this.#words[At.flags] = state.flags;
    state.channels.slice(0, CHANNELS).forEach((saved, channel) => {
      for (const field of FIELDS) this.#set(channel, PitWord[field], saved[field]);
      this.#times[(this.#at(channel) + PitWord.countLoadTime) / 2] = Number(saved.countLoadTime);
      const { mode } = saved;
      if (hpetTakesOver && channel === 0) this.#set(0, PitWord.mode, NO_MODE);
      this.#load(channel, saved.count);
      this.#set(channel, PitWord.mode, mode);
    });
  }

  #tick(): void {
    if (this.#words[At.reinject] !== 0) {
      if (this.#words[At.acknowledged] === 0) return;
      this.#words[At.acknowledged] = 0;
    }
    this.#ports.tick();
  }

  #command(value: number): void {
    const channel = value >> 6;
    if (channel === READ_BACK) {
      for (let each = 0; each < CHANNELS; each++) {
        if ((value & (2 << each)) === 0) continue;
        if ((value & ReadBack.NO_COUNT) === 0) this.#latchCount(each);
        if ((value & ReadBack.NO_STATUS) === 0) this.#latchStatus(each);
      }
      return;
    }
    const access = (value >> 4) & 3;
    if (access === LATCH) {
      this.#latchCount(channel);
      return;
    }
    for (const at of [PitWord.rwMode, PitWord.readState, PitWord.writeState]) this.#set(channel, at, access);
    const mode = (value >> 1) & 7;
    // Bit 2 does not matter to modes 2 and 3.
    this.#set(channel, PitWord.mode, mode > 5 ? mode - 4 : mode);
    this.#set(channel, PitWord.bcd, value & 1);
  }

  #latchCount(channel: number): void {
    if (this.#get(channel, PitWord.countLatched) !== 0) return;
    this.#set(channel, PitWord.latchedCount, this.#count(channel) & 0xffff);
    this.#set(channel, PitWord.countLatched, this.#get(channel, PitWord.rwMode));
  }

  #latchStatus(channel: number): void {
    if (this.#get(channel, PitWord.statusLatched) !== 0) return;
    const mode = (this.#get(channel, PitWord.rwMode) << 4) | (this.#get(channel, PitWord.mode) << 1);
    const out = this.#out(channel) ? 0x80 : 0;
    this.#set(channel, PitWord.status, (out | mode | this.#get(channel, PitWord.bcd)) & 0xff);
    this.#set(channel, PitWord.statusLatched, 1);
  }

  /** A count was written whole; counting begins. 0 is the longest. */
  #load(channel: number, value: number): void {
    this.#set(channel, PitWord.count, value === 0 ? 0x10000 : value);
    if (channel !== 0) {
      this.#times[(this.#at(channel) + PitWord.countLoadTime) / 2] = this.#ports.nowNs();
      return;
    }
    if ((this.#words[At.flags]! & Flag.HPET_LEGACY) !== 0) return;
    const mode = this.#get(0, PitWord.mode);
    this.#words[At.armed] = 0;
    if (mode > 4) return;
    const interval = Math.floor((this.#length(0) * 1e9) / PIT_HZ);
    const periodic = mode === 2 || mode === 3;
    this.#words[At.periodic] = periodic ? 1 : 0;
    this.#times[At.period / 2] = periodic ? Math.max(interval, MIN_PERIOD_NS) : interval;
    this.#times[At.expiry / 2] = this.#ports.nowNs() + interval;
    this.#words[At.armed] = 1;
    this.forgetLostTicks();
  }

  #setGate(channel: number, gate: number): void {
    const mode = this.#get(channel, PitWord.mode);
    const restarts = mode === 1 || mode === 2 || mode === 3 || mode === 5;
    if (restarts && this.#get(channel, PitWord.gate) < gate) {
      this.#times[(this.#at(channel) + PitWord.countLoadTime) / 2] = this.#ports.nowNs();
    }
    this.#set(channel, PitWord.gate, gate);
  }

  /** Clock ticks since counting began. */
  #elapsed(channel: number): number {
    return Math.floor((Math.max(0, this.#elapsedNs(channel)) * PIT_HZ) / 1e9);
  }

  #elapsedNs(channel: number): number {
    const now = this.#ports.nowNs();
    if (channel !== 0) return now - this.#loadTime(channel);
    const period = this.#times[At.period / 2]!;
    return period === 0 ? 0 : period - (this.#times[At.expiry / 2]! - now);
  }

  /** The counter as a program reads it. */
  #count(channel: number): number {
    const length = this.#length(channel);
    const elapsed = this.#elapsed(channel);
    const bcd = this.#get(channel, PitWord.bcd) !== 0;
    switch (this.#get(channel, PitWord.mode)) {
      case 0:
      case 1:
      case 4:
      case 5: {
        // After zero it goes on from the highest count there is.
        const turn = bcd ? 10_000 : 0x10000;
        const left = (length - elapsed) % turn;
        return encode(left < 0 ? left + turn : left, bcd);
      }
      case 3:
        return encode(length - ((2 * elapsed) % length), bcd);
      default:
        return encode(length - (elapsed % length), bcd);
    }
  }

  #out(channel: number): boolean {
    const length = this.#length(channel);
    const elapsed = this.#elapsed(channel);
    switch (this.#get(channel, PitWord.mode)) {
      case 1:
        return elapsed < length;
      case 2:
        return elapsed !== 0 && elapsed % length === 0;
      case 3:
        return elapsed % length < (length + 1) >> 1;
      case 4:
      case 5:
        return elapsed === length;
      default:
        return elapsed >= length;
    }
  }

  /** The initial count in clock ticks, at least 1. */
  #length(channel: number): number {
    const count = this.#get(channel, PitWord.count) >>> 0;
    if (this.#get(channel, PitWord.bcd) === 0) return Math.max(count, 1);
    return count > 0xffff ? 10_000 : Math.max(decodeBcd(count), 1);
  }

  #at(channel: number): number {
    return At.channels + channel * PitWord.end;
  }
  #get(channel: number, field: number): number {
    return this.#words[this.#at(channel) + field]!;
  }
  #set(channel: number, field: number, value: number): void {
    this.#words[this.#at(channel) + field] = value;
  }
  #loadTime(channel: number): number {
    return this.#times[(this.#at(channel) + PitWord.countLoadTime) / 2]!;
  }
}

type ChannelFields = Omit<PitState["channels"][number], "countLoadTime">;
const FIELDS = Object.keys(PitWord).filter((name) => name !== "end" && name !== "countLoadTime") as Exclude<
  keyof ChannelFields,
  symbol
>[];

function decodeBcd(value: number): number {
  return (value & 15) + 10 * ((value >> 4) & 15) + 100 * ((value >> 8) & 15) + 1000 * ((value >> 12) & 15);
}

function encode(count: number, bcd: boolean): number {
  if (!bcd) return count & 0xffff;
  const digit = (place: number) => Math.floor(count / place) % 10;
  return digit(1) | (digit(10) << 4) | (digit(100) << 8) | (digit(1000) << 12);
}
