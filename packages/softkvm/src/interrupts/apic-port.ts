/**
 * A local APIC as every thread sees it: who it is, and where interrupts come in. Senders touch IRR, TMR and the words
 * for NMIs and events, with atomic operations only; everything else is the processor's own ({@link LocalApic}).
 *
 * Reads are plain: an atomic one is a call into the engine, of 20 ns. They see what they must because the wake-up that
 * follows an interrupt, and the word by which the processor notices it, are atomic.
 */

import {
  ApicBase,
  BROADCAST,
  DeliveryMode,
  DFR_CLUSTER,
  DFR_FLAT,
  LapicEvent,
  Lvt,
  Reg,
  Svr,
  word,
  X2APIC_BROADCAST,
} from "./lapic-registers.ts";
import type { InterruptMessage } from "./message.ts";
import { Lapic, lapicWord, type SharedArea } from "./shared-layout.ts";

/** One NMI is served while another is latched (Intel SDM vol. 3, 6.7.1). */
const MAX_NMIS = 2;

export class ApicPort {
  /** Which slot of the machine this is. */
  readonly index: number;
  readonly words: Int32Array;
  readonly at: number;

  constructor(area: SharedArea, index: number) {
    this.index = index;
    this.words = area.words;
    this.at = lapicWord(index);
  }

  /** The processor's id, which is its x2APIC id. */
  get id(): number {
    return this.words[this.at + Lapic.id]! >>> 0;
  }
  /** The id that xAPIC destinations mean; software may change it. */
  get xapicId(): number {
    return this.register(Reg.ID) >>> 24;
  }
  /** Enabled by IA32_APIC_BASE. */
  get present(): boolean {
    return (this.words[this.at + Lapic.baseLow]! & ApicBase.ENABLED) !== 0;
  }
  get x2apic(): boolean {
    return (this.words[this.at + Lapic.baseLow]! & ApicBase.X2APIC) !== 0;
  }
  /** Enabled by the spurious-interrupt vector register. */
  get softwareEnabled(): boolean {
    return (this.register(Reg.SVR) & Svr.ENABLED) !== 0;
  }
  /** Whether the 8259As' interrupts come to this processor: through LINT0 as a virtual wire, or past a disabled APIC. */
  get acceptsPic(): boolean {
    if (!this.present) return true;
    return (this.register(Reg.LVT_LINT0) & (Lvt.MASKED | Lvt.MODE)) === DeliveryMode.EXTINT;
  }

  register(offset: number): number {
    return this.words[this.at + word(offset)]!;
  }

  /** A bit of one of the three 256-bit banks. */
  test(bank: number, vector: number): boolean {
    return (this.register(bank + (vector >> 5) * 0x10) & (1 << (vector & 31))) !== 0;
  }
  set(bank: number, vector: number): void {
    Atomics.or(this.words, this.at + word(bank) + (vector >> 5) * 4, 1 << (vector & 31));
  }
  clear(bank: number, vector: number): void {
    Atomics.and(this.words, this.at + word(bank) + (vector >> 5) * 4, ~(1 << (vector & 31)));
  }
  /** The highest vector of a bank, or -1. */
  highest(bank: number): number {
    const first = this.at + word(bank);
    for (let part = 7; part >= 0; part--) {
      const bits = this.words[first + part * 4]!;
      if (bits !== 0) return part * 32 + 31 - Math.clz32(bits);
    }
    return -1;
  }

  /** Waiting or being served here. */
  unfinished(vector: number): boolean {
    return this.test(Reg.ISR, vector) || this.test(Reg.IRR, vector);
  }

  /** Whether a destination means this APIC (Intel SDM vol. 3, 11.6.2). */
  matches(destination: number, logical: boolean): boolean {
    const x2apic = this.x2apic;
    if (destination === (x2apic ? X2APIC_BROADCAST : BROADCAST)) return true;
    if (!logical) {
      // KVM: an id that xAPIC cannot name is the processor's own even in xAPIC mode.
      return destination === (x2apic || destination > 0xff ? this.id : this.xapicId);
    }
    const logicalId = this.register(Reg.LDR);
    if (x2apic) return logicalId >>> 16 === destination >>> 16 && (logicalId & destination & 0xffff) !== 0;
    const own = logicalId >>> 24;
    switch (this.register(Reg.DFR)) {
      case DFR_FLAT:
        return (own & destination) !== 0;
      case DFR_CLUSTER:
        return own >> 4 === destination >>> 4 && (own & destination & 0xf) !== 0;
      default:
        return false;
    }
  }

  /** Takes an interrupt in. Returns whether it was accepted; the caller wakes the processor then. */
  accept({ deliveryMode, vector, level, asserted }: InterruptMessage): boolean {
    switch (deliveryMode) {
      case DeliveryMode.FIXED:
      case DeliveryMode.LOWEST_PRIORITY:
        if ((level && !asserted) || !this.present || !this.softwareEnabled) return false;
        // The trigger mode first: whoever sees the request sees how it came.
        if (this.test(Reg.TMR, vector) !== level) {
          if (level) this.set(Reg.TMR, vector);
          else this.clear(Reg.TMR, vector);
        }
        this.set(Reg.IRR, vector);
        return true;
      case DeliveryMode.NMI:
        this.queueNmi();
        return true;
      case DeliveryMode.INIT:
        if (level && !asserted) return false;
        // An INIT undoes a start-up that was not taken yet.
        this.#raise(LapicEvent.INIT, LapicEvent.SIPI);
        return true;
      case DeliveryMode.STARTUP:
        Atomics.store(this.words, this.at + Lapic.sipiVector, vector);
        this.#raise(LapicEvent.SIPI, 0);
        return true;
      case DeliveryMode.SMI:
        this.#raise(LapicEvent.SMI, 0);
        return true;
      case DeliveryMode.REMOTE_READ:
        this.#raise(LapicEvent.UNHALT, 0);
        return true;
      default:
        // ExtINT comes from the 8259As by wire; it is no message that an APIC takes.
        return false;
    }
  }

  queueNmi(): void {
    const at = this.at + Lapic.nmis;
    for (let count = Atomics.load(this.words, at); count < MAX_NMIS; ) {
      const seen = Atomics.compareExchange(this.words, at, count, count + 1);
      if (seen === count) return;
      count = seen;
    }
  }

  #raise(event: number, dropped: number): void {
    const at = this.at + Lapic.events;
    for (let old = Atomics.load(this.words, at); ; ) {
      const seen = Atomics.compareExchange(this.words, at, old, (old & ~dropped) | event);
      if (seen === old) return;
      old = seen;
    }
  }
}
