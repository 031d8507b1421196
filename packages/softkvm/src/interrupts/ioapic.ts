/**
 * The IOAPIC (Intel 82093AA datasheet, 290566), version 0x11: 24 pins, no EOI register, pin polarity ignored. Used with
 * the machine's lock held.
 */

import type { IoapicState } from "@lodge/kvm";
import type { ApicBus } from "./apic-bus.ts";
import type { ApicPort } from "./apic-port.ts";
import type { EoiListening } from "./eoi-listening.ts";
import { DeliveryMode } from "./lapic-registers.ts";
import { decodeRedirection, emptyMessage, Redirection } from "./message.ts";
import { Ioapic as At, IOAPIC_PINS, Lapic, type SharedArea } from "./shared-layout.ts";

/** The memory-mapped registers: an index and a window (3.1). */
const Mmio = { SELECT: 0x00, WINDOW: 0x10, SIZE: 0x100 } as const;
/** Registers behind the window (3.2). */
const Reg = { ID: 0x00, VERSION: 0x01, ARBITRATION: 0x02, REDIRECTION: 0x10 } as const;
const VERSION = 0x11 | ((IOAPIC_PINS - 1) << 16);
export const IOAPIC_DEFAULT_BASE = 0xfec00000;

/** The clock chip's pin. Monitors ask whether its ticks got through, so KVM counts one as merged until its EOI. */
const RTC_PIN = 8;

/** What only hardware writes. */
const READ_ONLY = Redirection.DELIVERY_STATUS | Redirection.REMOTE_IRR;

/** A level that its EOI finds still high this often in a row is delivered only after a while, so that the guest gets on. */
const STORM = 10_000;
const STORM_PAUSE_NS = 10_000_000;

export interface IoapicPorts {
  nowNs(): number;
  /** A pin's interrupt was ended by a processor. */
  acknowledged(pin: number): void;
  maskChanged(pin: number, masked: boolean): void;
  /** Asks the source of a pin whether it is still high; false if there is none to ask. */
  resample(pin: number): boolean;
  /** Whether the end of an edge at this pin matters to someone. */
  hasListener(pin: number): boolean;
}

export class Ioapic {
  readonly #words: Int32Array;
  readonly #times: Float64Array;
  readonly #bus: ApicBus;
  readonly #ports: IoapicPorts;
  readonly #message = emptyMessage();

  constructor({ words, times }: SharedArea, bus: ApicBus, ports: IoapicPorts) {
    this.#words = words;
    this.#times = times;
    this.#bus = bus;
    this.#ports = ports;
  }

  /** Power on. */
  reset(): void {
    this.#words.fill(0, At.baseLow, At.end);
    this.#words[At.baseLow] = IOAPIC_DEFAULT_BASE | 0;
    for (let pin = 0; pin < IOAPIC_PINS; pin++) this.#words[At.entries + 2 * pin] = Redirection.MASKED;
  }

  /** Whether an access is for the IOAPIC. Needs no lock. */
  contains(address: number, size: number): boolean {
    // KVM puts it on the bus once; where a state with another base says, too, must be inside that.
    const offset = address - IOAPIC_DEFAULT_BASE;
    if (offset < 0 || offset + size > Mmio.SIZE) return false;
    const own = address - this.#base;
    return own >= 0 && own < Mmio.SIZE;
  }

  get #base(): number {
    return (this.#words[At.baseLow]! >>> 0) + (this.#words[At.baseHigh]! >>> 0) * 2 ** 32;
  }

  /** Unsigned, as many bytes as were asked for. */
  read(address: number, size: number): number {
    const value = this.#readRegister((address - this.#base) & 0xff) >>> 0;
    return size >= 4 ? value : value & (2 ** (8 * size) - 1);
  }

  write(address: number, size: number, value: number): void {
    const low = size >= 4 ? value : value & (2 ** (8 * size) - 1);
    switch ((address - this.#base) & 0xff) {
      case Mmio.SELECT:
        this.#words[At.select] = low & 0xff;
        return;
      case Mmio.WINDOW:
        this.#writeWindow(low);
        return;
    }
  }

  /** Sets one source's level at a pin. Returns how many took it, 0 for one merged, -1 for a masked pin. */
  setLine(pin: number, source: number, high: boolean): number {
    const at = At.lines + pin;
    const lines = high ? this.#words[at]! | source : this.#words[at]! & ~source;
    this.#words[at] = lines;
    return this.#setPin(pin, lines !== 0);
  }

  /** Adds the vectors whose end at this processor concerns a pin. */
  listen(port: ApicPort, listening: EoiListening): void {
    const rtcVector = this.#words[port.at + Lapic.rtcVector]!;
    if (rtcVector !== 0) listening.addVector(port, rtcVector - 1);
    for (let pin = 0; pin < IOAPIC_PINS; pin++) {
      const low = this.#low(pin);
      if ((low & Redirection.LEVEL) === 0 && pin !== RTC_PIN && !this.#ports.hasListener(pin)) continue;
      const destination = this.#high(pin) >>> Redirection.DESTINATION_SHIFT;
      listening.add(port, low & Redirection.VECTOR, destination, (low & Redirection.LOGICAL) !== 0);
    }
  }

  /** A processor ended an interrupt of a vector that is listened for: all pins that have it are told. */
  endOfInterrupt(port: ApicPort, vector: number, level: boolean, suppressed: boolean): void {
    this.#endRtc(port, vector);
    for (let pin = 0; pin < IOAPIC_PINS; pin++) {
      if ((this.#low(pin) & Redirection.VECTOR) !== vector) continue;
      // First: the source may take its level back, and then nothing is delivered again.
      this.#ports.acknowledged(pin);
      if (!level || suppressed) continue;
      this.#setLow(pin, this.#low(pin) & ~Redirection.REMOTE_IRR);
      if ((this.#low(pin) & Redirection.MASKED) !== 0 || !this.#requested(pin)) {
        this.#words[At.eoiStorm + pin] = 0;
      } else if (++this.#words[At.eoiStorm + pin]! >= STORM) {
        this.#words[At.eoiStorm + pin] = 0;
        this.#times[At.stormUntil / 2] = this.#ports.nowNs() + STORM_PAUSE_NS;
        this.#words[At.stormArmed] = 1;
      } else {
        this.#service(pin, false);
      }
    }
  }

  /** When held-back levels are delivered, or Infinity. Needs no lock: {@link expire} looks again. */
  get nextDeadline(): number {
    return this.#words[At.stormArmed] !== 0 ? this.#times[At.stormUntil / 2]! : Number.POSITIVE_INFINITY;
  }

  expire(now: number): void {
    if (now < this.nextDeadline) return;
    this.#words[At.stormArmed] = 0;
    for (let pin = 0; pin < IOAPIC_PINS; pin++) {
      const low = this.#low(pin);
      if ((low & Redirection.LEVEL) === 0 || (low & Redirection.REMOTE_IRR) !== 0) continue;
      if (this.#requested(pin)) this.#service(pin, false);
    }
  }

  getState(): IoapicState {
    const words = this.#words;
    return {
      baseAddress: this.#base,
      ioregsel: words[At.select]! >>> 0,
      id: words[At.id]! >>> 0,
      irr: (words[At.irr]! & ~words[At.irrDelivered]!) >>> 0,
      redirtbl: Array.from(
        { length: IOAPIC_PINS },
        (_, pin) => BigInt(this.#low(pin) >>> 0) | (BigInt(this.#high(pin) >>> 0) << 32n),
      ),
    };
  }

  setState(state: IoapicState): void {
    const words = this.#words;
    words[At.baseLow] = state.baseAddress % 2 ** 32;
    words[At.baseHigh] = state.baseAddress / 2 ** 32;
    words[At.select] = state.ioregsel;
    words[At.id] = state.id;
    for (let pin = 0; pin < IOAPIC_PINS; pin++) {
      const entry = state.redirtbl[pin] ?? BigInt(Redirection.MASKED);
      this.#setLow(pin, Number(entry & 0xffffffffn));
      this.#setHigh(pin, Number((entry >> 32n) & 0xffffffffn));
    }
    this.#bus.relistenAll();
    words[At.irr] = 0;
    words[At.irrDelivered] = 0;
    words[At.stormArmed] = 0;
    this.#forgetRtc();
    for (let pin = 0; pin < IOAPIC_PINS; pin++) {
      if ((state.irr & (1 << pin)) !== 0) this.#setPin(pin, true);
    }
    this.#forgetRtc();
    for (const port of this.#bus.ports) this.restoreRtc(port);
  }

  /** A processor's state was replaced: whether it still has to end the clock chip's interrupt. */
  restoreRtc(port: ApicPort): void {
    const low = this.#low(RTC_PIN);
    const vector = low & Redirection.VECTOR;
    const logical = (low & Redirection.LOGICAL) !== 0;
    if (!this.#bus.reaches(port, this.#high(RTC_PIN) >>> Redirection.DESTINATION_SHIFT, logical)) return;
    const at = port.at + Lapic.rtcVector;
    const pending = port.unfinished(vector);
    if (pending === (this.#words[at] !== 0)) return;
    this.#words[at] = pending ? vector + 1 : 0;
    this.#words[At.rtcPendingEoi]! += pending ? 1 : -1;
  }

  #setPin(pin: number, high: boolean): number {
    const bit = 1 << pin;
    const words = this.#words;
    if (!high) {
      words[At.irr]! &= ~bit;
      return 1;
    }
    if (pin === RTC_PIN && words[At.rtcPendingEoi]! > 0) return 0;
    const was = this.#requested(pin);
    words[At.irr]! |= bit;
    if ((this.#low(pin) & Redirection.LEVEL) === 0) {
      words[At.irrDelivered]! &= ~bit;
      if (was) return 0;
    }
    return this.#service(pin, pin === RTC_PIN);
  }

  #service(pin: number, rtc: boolean): number {
    const low = this.#low(pin);
    const level = (low & Redirection.LEVEL) !== 0;
    if ((low & Redirection.MASKED) !== 0 || (level && (low & Redirection.REMOTE_IRR) !== 0)) return -1;
    decodeRedirection(this.#message, low, this.#high(pin));
    if (!level) this.#words[At.irrDelivered]! |= 1 << pin;
    const status = this.#bus.deliver(this.#message, undefined, rtc);
    if (rtc) this.#words[At.rtcPendingEoi] = Math.max(status, 0);
    // KVM: also when there was nobody (-1), but not when nobody took it (0).
    if (level && status !== 0) this.#setLow(pin, low | Redirection.REMOTE_IRR);
    return status;
  }

  #endRtc(port: ApicPort, vector: number): void {
    const at = port.at + Lapic.rtcVector;
    if (this.#words[at] !== vector + 1) return;
    this.#words[at] = 0;
    if (this.#words[At.rtcPendingEoi]! > 0) this.#words[At.rtcPendingEoi]! -= 1;
  }

  #forgetRtc(): void {
    this.#words[At.rtcPendingEoi] = 0;
    for (const port of this.#bus.ports) this.#words[port.at + Lapic.rtcVector] = 0;
  }

  #readRegister(offset: number): number {
    if (offset === Mmio.SELECT) return this.#words[At.select]!;
    if (offset !== Mmio.WINDOW) return 0;
    const select = this.#words[At.select]!;
    switch (select) {
      case Reg.ID:
      case Reg.ARBITRATION:
        return (this.#words[At.id]! & 0xf) << 24;
      case Reg.VERSION:
        return VERSION;
    }
    const pin = (select - Reg.REDIRECTION) >>> 1;
    if (pin >= IOAPIC_PINS) return 0xffffffff;
    return (select & 1) !== 0 ? this.#high(pin) : this.#low(pin);
  }

  #writeWindow(value: number): void {
    const select = this.#words[At.select]!;
    if (select === Reg.ID) this.#words[At.id] = (value >>> 24) & 0xf;
    const pin = (select - Reg.REDIRECTION) >>> 1;
    if (pin >= IOAPIC_PINS) return;
    const old = this.#low(pin);
    const oldHigh = this.#high(pin);
    if ((select & 1) !== 0) this.#setHigh(pin, value);
    else this.#setLow(pin, (value & ~READ_ONLY) | (old & READ_ONLY));
    // Guests end an interrupt by making the entry an edge and a level again, as there is no EOI register.
    if ((this.#low(pin) & Redirection.LEVEL) === 0) this.#setLow(pin, this.#low(pin) & ~Redirection.REMOTE_IRR);

    const low = this.#low(pin);
    this.#relisten(pin, old, oldHigh);
    if (((old ^ low) & Redirection.MASKED) !== 0) this.#ports.maskChanged(pin, (low & Redirection.MASKED) !== 0);
    const blocked = (low & (Redirection.MASKED | Redirection.REMOTE_IRR)) !== 0;
    if ((low & Redirection.LEVEL) === 0 || blocked || !this.#requested(pin)) return;
    // While it was masked the source may have gone low unnoticed. One that can be asked raises it again if not.
    if (this.#ports.resample(pin)) this.#words[At.irr]! &= ~(1 << pin);
    else this.#service(pin, false);
  }

  /** An entry was written: KVM asks whom it means, for one of fixed delivery, and whom its old destination means. */
  #relisten(pin: number, oldLow: number, oldHigh: number): void {
    const low = this.#low(pin);
    const message = this.#message;
    decodeRedirection(message, low, this.#high(pin));
    if (message.deliveryMode !== DeliveryMode.FIXED) {
      this.#bus.relistenAll();
      return;
    }
    this.#bus.relistenWhere(message);
    const same = ((low ^ oldLow) & Redirection.LOGICAL) === 0;
    if (same && oldHigh >>> Redirection.DESTINATION_SHIFT === message.destination) return;
    // As KVM reads it: the old destination in the new mode.
    message.destination = oldHigh >>> Redirection.DESTINATION_SHIFT;
    this.#bus.relistenWhere(message);
  }

  #requested(pin: number): boolean {
    return (this.#words[At.irr]! & (1 << pin)) !== 0;
  }
  #low(pin: number): number {
    return this.#words[At.entries + 2 * pin]!;
  }
  #setLow(pin: number, value: number): void {
    this.#words[At.entries + 2 * pin] = value;
  }
  #high(pin: number): number {
    return this.#words[At.entries + 2 * pin + 1]!;
  }
  #setHigh(pin: number, value: number): void {
    this.#words[At.entries + 2 * pin + 1] = value;
  }
}
