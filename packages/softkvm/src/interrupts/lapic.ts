/** A local APIC as its own processor sees it: registers, priorities, end of interrupt. Used by one thread only. */

import type { ApicBus } from "./apic-bus.ts";
import { ApicPort } from "./apic-port.ts";
import {
  ApicBase,
  BROADCAST,
  DeliveryMode,
  DFR_FIXED,
  DFR_FLAT,
  Icr,
  isReadable,
  LAPIC_DEFAULT_BASE,
  LapicFeature,
  LDR_WRITABLE,
  LVTS,
  Lvt,
  lvtWritable,
  Reg,
  Shorthand,
  Svr,
  TimerMode,
  VERSION,
  VERSION_DIRECTED_EOI,
  word,
  X2APIC_ICR_RESERVED,
  x2apicLogicalId,
} from "./lapic-registers.ts";
import { type ApicClock, LapicTimer } from "./lapic-timer.ts";
import { emptyMessage, type InterruptMessage } from "./message.ts";
import { IrqchipMode, LAPIC_PAGE_WORDS, Lapic, type SharedArea, Vm } from "./shared-layout.ts";

/** What KVM takes for the width of physical addresses until CPUID says. */
const ADDRESS_BITS = 36;

export class LocalApic extends ApicPort {
  readonly timer: LapicTimer;
  readonly #bus: ApicBus;
  readonly #onEoi: (vector: number) => void;
  readonly #message: InterruptMessage = emptyMessage();

  /** `onEoi` hears of every vector whose interrupt this processor ended. */
  constructor(area: SharedArea, index: number, bus: ApicBus, clock: ApicClock, onEoi: (vector: number) => void) {
    super(area, index);
    this.#bus = bus;
    this.#onEoi = onEoi;
    this.timer = new LapicTimer(area, this.at, clock);
  }

  /** Intel SDM vol. 3, table 11-3 and section 11.4.7; INIT keeps the APIC base, mode and id. */
  reset(init: boolean): void {
    const boot = this.id === this.words[Vm.bootId]! >>> 0;
    if (!init) {
      this.#word(Lapic.baseLow, LAPIC_DEFAULT_BASE | ApicBase.ENABLED | (boot ? ApicBase.BOOT_PROCESSOR : 0));
      this.#word(Lapic.baseHigh, 0);
      this.#write(Reg.ID, this.id << 24);
    }
    this.#writeVersion();
    for (const lvt of LVTS) this.#write(lvt, Lvt.MASKED);
    this.timer.reset();
    // KVM lets the boot processor's virtual wire work from the start (KVM_X86_QUIRK_LINT0_REENABLED).
    if (boot) this.#write(Reg.LVT_LINT0, DeliveryMode.EXTINT);
    this.#write(Reg.DFR, DFR_FLAT);
    this.#write(Reg.SVR, 0xff);
    this.#write(Reg.TPR, 0);
    if (!this.x2apic) this.#write(Reg.LDR, 0);
    for (const offset of [Reg.ESR, Reg.ICR, Reg.ICR2]) this.#write(offset, 0);
    for (const bank of [Reg.IRR, Reg.ISR, Reg.TMR]) {
      for (let part = 0; part < 8; part++) this.#write(bank + part * 0x10, 0);
    }
    for (const at of [Lapic.pvEoiLow, Lapic.pvEoiHigh, Lapic.pvEoiPending, Lapic.ioapicEoi]) this.#word(at, 0);
    this.updatePriority();
    this.#bus.relistenAll();
  }

  /** What of the guest's CPUID concerns the APIC: {@link LapicFeature} bits, and how wide physical addresses are. */
  setFeatures(features: number, addressBits: number): void {
    this.#word(Lapic.features, features | (addressBits << LapicFeature.ADDRESS_BITS_SHIFT));
    this.#writeVersion();
  }

  /** Reads a register by MMIO (11.4.1). What is not there reads as 0. */
  read(offset: number, size: number): number {
    if (!this.present || this.x2apic) return size >= 4 ? 0xffffffff : 2 ** (8 * size) - 1;
    const inside = offset & 0xf;
    if (inside + size > 4 || !isReadable(offset, false)) return 0;
    const value = this.readRegister(offset & ~0xf) >>> (8 * inside);
    return size === 4 ? value : value & (2 ** (8 * size) - 1);
  }

  /** Writes a register by MMIO. Only whole aligned registers can be written. */
  write(offset: number, size: number, value: number): void {
    if (!this.present || this.x2apic || size !== 4 || (offset & 0xf) !== 0) return;
    this.writeRegister(offset, value);
  }

  canRead(offset: number): boolean {
    return isReadable(offset, this.x2apic);
  }

  /** Unsigned. `offset` is that of a readable register. */
  readRegister(offset: number): number {
    switch (offset) {
      case Reg.APR:
        return 0;
      case Reg.TIMER_CURRENT:
        return this.timer.currentCount();
      case Reg.PPR:
        return this.updatePriority();
      default:
        return this.register(offset) >>> 0;
    }
  }

  /** Returns false for what this register or mode does not take; x2APIC faults then, xAPIC ignores it. */
  writeRegister(offset: number, value: number): boolean {
    const x2apic = this.x2apic;
    switch (offset) {
      case Reg.ID:
        if (x2apic) return false;
        this.#write(Reg.ID, value & (BROADCAST << 24));
        this.#bus.relistenAll();
        return true;
      case Reg.TPR:
        this.taskPriority = value & 0xff;
        return true;
      case Reg.EOI:
        this.endOfInterrupt();
        return true;
      case Reg.LDR:
        if (x2apic) return false;
        this.#write(Reg.LDR, value & LDR_WRITABLE);
        this.#bus.relistenAll();
        return true;
      case Reg.DFR:
        if (x2apic) return false;
        this.#write(Reg.DFR, value | DFR_FIXED);
        this.#bus.relistenAll();
        return true;
      case Reg.SVR:
        this.#writeSpurious(value);
        return true;
      case Reg.ICR:
        this.#send(value & ~Icr.BUSY, this.register(Reg.ICR2));
        return true;
      case Reg.ICR2:
        if (x2apic) return false;
        this.#write(Reg.ICR2, value & (BROADCAST << 24));
        return true;
      case Reg.LVT_TIMER:
        this.#writeLvt(offset, value, this.#timerModes);
        this.timer.setMode(this.register(Reg.LVT_TIMER) & this.#timerModes);
        return true;
      case Reg.LVT_THERMAL:
      case Reg.LVT_PERF:
      case Reg.LVT_LINT0:
      case Reg.LVT_LINT1:
      case Reg.LVT_ERROR:
        this.#writeLvt(offset, value, 0);
        return true;
      case Reg.TIMER_INITIAL:
        this.timer.setInitialCount(value);
        return true;
      case Reg.TIMER_DIVIDE:
        this.timer.setDivide(value);
        return true;
      case Reg.ESR:
        // KVM reports no errors: illegal vectors are kept and never delivered.
        return !x2apic || value === 0;
      case Reg.SELF_IPI:
        if (!x2apic || (value & ~0xff) !== 0) return false;
        this.#sendMessage(Shorthand.SELF | value, 0);
        return true;
      default:
        return false;
    }
  }

  /** The interrupt command register as x2APIC has it: one write of 64 bits (11.12.9). */
  writeIcr(low: number, high: number): boolean {
    if ((low & X2APIC_ICR_RESERVED) !== 0) return false;
    this.#write(Reg.ICR2, high);
    this.#send(low & ~Icr.BUSY, high);
    return true;
  }

  get taskPriority(): number {
    return this.register(Reg.TPR);
  }
  set taskPriority(value: number) {
    this.#write(Reg.TPR, value);
    this.updatePriority();
  }

  /** Processor priority (11.8.3.1): what it takes to interrupt. */
  updatePriority(): number {
    const task = this.register(Reg.TPR) & 0xff;
    const served = Math.max(this.highest(Reg.ISR), 0) & 0xf0;
    const priority = (task & 0xf0) >= served ? task : served;
    this.#write(Reg.PPR, priority);
    return priority;
  }

  /** The vector that would interrupt the processor now, or -1. */
  pendingVector(): number {
    if (!this.present) return -1;
    const priority = this.updatePriority();
    const vector = this.highest(Reg.IRR);
    return vector < 0 || (vector & 0xf0) <= priority ? -1 : vector;
  }

  /** The processor takes `vector`, which {@link pendingVector} named. */
  acknowledge(vector: number): void {
    this.clear(Reg.IRR, vector);
    const at = this.#serviceWord(vector);
    this.words[at] = this.words[at]! | (1 << (vector & 31));
    this.updatePriority();
  }

  /** Ends the interrupt of the highest priority that is being served. Returns its vector, or -1. */
  endOfInterrupt(): number {
    const vector = this.highest(Reg.ISR);
    // Not every EOI belongs to one: guests write some to be sure.
    if (vector < 0) return -1;
    const at = this.#serviceWord(vector);
    this.words[at] = this.words[at]! & ~(1 << (vector & 31));
    this.updatePriority();
    this.#onEoi(vector);
    return vector;
  }

  /** Level interrupts' EOIs stay here (11.8.5). */
  get suppressesEoi(): boolean {
    return (this.register(Reg.SVR) & Svr.DIRECTED_EOI) !== 0;
  }

  /** An interrupt of the APIC's own, by its LVT entry. Returns whether it was accepted. */
  deliverLocal(lvt: number): boolean {
    const entry = this.register(lvt);
    if (!this.present || (entry & Lvt.MASKED) !== 0) return false;
    const message = this.#message;
    message.vector = entry & Lvt.VECTOR;
    message.deliveryMode = entry & Lvt.MODE;
    message.level = (entry & Lvt.LEVEL) !== 0;
    message.asserted = true;
    message.shorthand = Shorthand.SELF;
    if (this.#bus.deliver(message, this) <= 0) return false;
    // A performance interrupt masks itself until the handler has seen to it (20.6.2.6).
    if (lvt === Reg.LVT_PERF) this.#write(lvt, entry | Lvt.MASKED);
    return true;
  }

  /** The register page as KVM gives it (4.57), current count and all. */
  getState(): Uint8Array {
    const page = this.words.slice(this.at, this.at + LAPIC_PAGE_WORDS);
    page[word(Reg.TIMER_CURRENT)] = this.timer.currentCount();
    if (this.x2apic) page[word(Reg.ID)] = (this.#wideIds ? this.id : this.id << 24) | 0;
    return new Uint8Array(page.buffer, 0, LAPIC_PAGE_WORDS * 4);
  }

  /** Becomes what {@link getState} gave; the timer goes on. Returns false for an id that is not this processor's. */
  setState(bytes: Uint8Array): boolean {
    const page = new Int32Array(bytes.slice(0, LAPIC_PAGE_WORDS * 4).buffer);
    if (this.x2apic) {
      if (this.#wideIds && page[word(Reg.ID)] !== (this.id | 0)) return false;
      page[word(Reg.ID)] = this.id;
      page[word(Reg.LDR)] = x2apicLogicalId(this.id);
    }
    this.words.set(page, this.at);
    this.#writeVersion();
    this.updatePriority();
    this.#bus.relistenAll();
    this.timer.resume(this.register(Reg.LVT_TIMER) & this.#timerModes);
    return true;
  }

  /** IA32_APIC_BASE. */
  get baseLow(): number {
    return this.words[this.at + Lapic.baseLow]! >>> 0;
  }
  get baseHigh(): number {
    return this.words[this.at + Lapic.baseHigh]! >>> 0;
  }
  /** Where the register page is. */
  get baseAddress(): number {
    return ((this.baseLow & ApicBase.ADDRESS) >>> 0) + this.baseHigh * 2 ** 32;
  }

  /** Writes IA32_APIC_BASE. False where the processor would fault; the monitor (`host`) may change modes as it likes. */
  setBase(low: number, high: number, host: boolean): boolean {
    if (low >>> 0 === this.baseLow && high >>> 0 === this.baseHigh) return true;
    const features = this.words[this.at + Lapic.features]!;
    const reserved = ApicBase.RESERVED | ((features & LapicFeature.X2APIC) !== 0 ? 0 : ApicBase.X2APIC);
    if ((low & reserved) !== 0 || this.#beyondAddressBits(low, high)) return false;
    const modes = ApicBase.ENABLED | ApicBase.X2APIC;
    const next = low & modes;
    const old = this.baseLow & modes;
    if (next === ApicBase.X2APIC) return false;
    // 11.12.5: out of x2APIC mode only by way of disabling, into it only from xAPIC.
    if (!host && old === modes && next === ApicBase.ENABLED) return false;
    if (!host && old === 0 && next === modes) return false;

    Atomics.store(this.words, this.at + Lapic.baseLow, low);
    this.#word(Lapic.baseHigh, high);
    if (old === next) return true;
    this.#bus.relistenAll();
    if (next === modes) {
      this.#write(Reg.ID, this.id);
      this.#write(Reg.LDR, x2apicLogicalId(this.id));
    } else if (next === ApicBase.ENABLED) {
      this.#write(Reg.ID, this.id << 24);
    }
    return true;
  }

  /** Takes what waits of `mask` ({@link LapicEvent}); returns it. */
  takeEvents(mask: number): number {
    return Atomics.and(this.words, this.at + Lapic.events, ~mask) & mask;
  }
  get events(): number {
    return this.words[this.at + Lapic.events]!;
  }

  get #timerModes(): number {
    const deadline = (this.words[this.at + Lapic.features]! & LapicFeature.TSC_DEADLINE) !== 0;
    return TimerMode.PERIODIC | (deadline ? TimerMode.TSC_DEADLINE : 0);
  }

  get #wideIds(): boolean {
    return (this.words[Vm.x2apicApi]! & 1) !== 0;
  }

  #beyondAddressBits(low: number, high: number): boolean {
    const bits = (this.words[this.at + Lapic.features]! >> LapicFeature.ADDRESS_BITS_SHIFT) & 0xff || ADDRESS_BITS;
    return (low >>> 0) + (high >>> 0) * 2 ** 32 >= 2 ** bits;
  }

  /** Nobody else writes what is being served. */
  #serviceWord(vector: number): number {
    return this.at + word(Reg.ISR) + (vector >> 5) * 4;
  }

  #word(offset: number, value: number): void {
    this.words[this.at + offset] = value;
  }

  #write(offset: number, value: number): void {
    this.words[this.at + word(offset)] = value;
  }

  /** Directed EOI only where the monitor plays the IOAPIC: KVM's has no EOI register, and guests do not look. */
  #writeVersion(): void {
    const features = this.words[this.at + Lapic.features]!;
    const directed = this.words[Vm.mode] === IrqchipMode.SPLIT && (features & LapicFeature.X2APIC) !== 0;
    this.#write(Reg.VERSION, VERSION | (directed ? VERSION_DIRECTED_EOI : 0));
  }

  #writeSpurious(value: number): void {
    const directed = (this.register(Reg.VERSION) & VERSION_DIRECTED_EOI) !== 0;
    if (((this.register(Reg.SVR) ^ value) & Svr.ENABLED) !== 0) this.#bus.relistenAll();
    this.#write(Reg.SVR, value & (Svr.WRITABLE | (directed ? Svr.DIRECTED_EOI : 0)));
    if ((value & Svr.ENABLED) !== 0) return;
    // 11.4.7.2: while disabled by software, LVT entries are masked.
    for (const lvt of LVTS) this.#write(lvt, this.register(lvt) | Lvt.MASKED);
  }

  #writeLvt(offset: number, value: number, modes: number): void {
    const masked = this.softwareEnabled ? value : value | Lvt.MASKED;
    // Atomic for LINT0's sake: of this and a rise of the 8259As' wire, one sees the other.
    Atomics.store(this.words, this.at + word(offset), masked & (lvtWritable(offset) | modes));
  }

  #send(low: number, high: number): void {
    this.#sendMessage(low, this.x2apic ? high >>> 0 : high >>> 24);
    this.#write(Reg.ICR, low);
  }

  #sendMessage(icr: number, destination: number): void {
    const message = this.#message;
    message.vector = icr & Icr.VECTOR;
    message.deliveryMode = icr & DeliveryMode.MASK;
    message.logical = (icr & Icr.LOGICAL) !== 0;
    message.level = (icr & Icr.LEVEL) !== 0;
    message.asserted = (icr & Icr.ASSERT) !== 0;
    message.shorthand = icr & Icr.SHORTHAND;
    message.destination = destination;
    message.redirectionHint = false;
    this.#bus.deliver(message, this);
  }
}
