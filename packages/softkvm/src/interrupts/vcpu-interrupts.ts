/**
 * The interrupt hardware as one processor meets it: what wants it now, what it acknowledges, and its own registers. For
 * the processor's own thread. Every method is done when it returns; where something became deliverable to this processor
 * itself, it is woken like any other.
 */

import type { InterruptController } from "./interrupt-controller.ts";
import { LocalApic } from "./lapic.ts";
import { LAPIC_PAGE_BYTES, LapicEvent, LapicFeature, Msr, Reg } from "./lapic-registers.ts";
import type { ApicClock } from "./lapic-timer.ts";
import { type GuestBytes, PvEoi } from "./pv-eoi.ts";
import { Lapic } from "./shared-layout.ts";

/** The CPUID bits that the local APIC follows. */
export interface ApicFeatures {
  /** Leaf 1, ECX bit 21. */
  x2apic: boolean;
  /** Leaf 1, ECX bit 24. */
  tscDeadline: boolean;
  /** Leaf 0x80000008, EAX bits 7:0; 36 without the leaf. */
  physicalAddressBits: number;
}

export class VcpuInterrupts {
  readonly apic: LocalApic;
  /** Upper half of what {@link readMsr} read. */
  msrHigh = 0;
  readonly #machine: InterruptController;
  readonly #pvEoi: PvEoi;

  /**
   * `index` is the slot that {@link InterruptController.addApic} gave; {@link reset} it first if it is new. `memory`
   * serves the paravirtual end of interrupt; without it, the guest cannot switch that on.
   */
  constructor(machine: InterruptController, index: number, clock: ApicClock, memory: GuestBytes = NO_MEMORY) {
    this.#machine = machine;
    this.apic = new LocalApic(machine.area, index, machine.bus, clock, (vector) => this.#ended(vector));
    this.#pvEoi = new PvEoi(this.apic, memory);
  }

  reset(init = false): void {
    this.apic.reset(init);
  }

  setFeatures({ x2apic, tscDeadline, physicalAddressBits }: ApicFeatures): void {
    const bits = (x2apic ? LapicFeature.X2APIC : 0) | (tscDeadline ? LapicFeature.TSC_DEADLINE : 0);
    this.apic.setFeatures(bits, physicalAddressBits);
  }

  /** Whether a maskable interrupt would be taken now. */
  hasInterrupt(): boolean {
    this.#pvEoi.settle();
    return this.#externalWants() || this.#picWants() || this.apic.pendingVector() >= 0;
  }

  /** Before the guest goes on: which ends IOAPICs hear of, if what that depends on has changed. */
  followRoutes(): void {
    if (this.apic.words[this.apic.at + Lapic.relisten] !== 0) this.#machine.relisten(this.apic);
  }

  /** The processor takes an interrupt: its vector, or -1 if there is none after all. */
  acknowledge(): number {
    this.followRoutes();
    this.#pvEoi.settle();
    if (this.#externalWants()) return Atomics.exchange(this.apic.words, this.apic.at + Lapic.external, 0) - 1;
    if (this.#picWants()) return this.#machine.acknowledgePic();
    const vector = this.apic.pendingVector();
    if (vector < 0) return -1;
    this.apic.acknowledge(vector);
    if (!this.#machine.listensForEoi(this.apic, vector)) this.#pvEoi.offer();
    return vector;
  }

  /** KVM_INTERRUPT on a split chip: what the monitor's 8259As want. False while another waits. */
  injectExternal(vector: number): boolean {
    const at = this.apic.at + Lapic.external;
    if (Atomics.compareExchange(this.apic.words, at, 0, (vector & 0xff) + 1) !== 0) return false;
    this.#recheck();
    return true;
  }
  /** Whether the monitor's 8259As would be heard, and nothing of theirs waits. */
  get takesExternal(): boolean {
    return this.apic.words[this.apic.at + Lapic.external] === 0 && this.apic.acceptsPic;
  }

  /** What waits beside interrupts: {@link LapicEvent} bits. */
  get events(): number {
    return this.apic.events;
  }
  takeInit(): boolean {
    return this.apic.takeEvents(LapicEvent.INIT) !== 0;
  }
  /** The page number where a started processor begins, or -1. */
  takeSipi(): number {
    if (this.apic.takeEvents(LapicEvent.SIPI) === 0) return -1;
    return Atomics.load(this.apic.words, this.apic.at + Lapic.sipiVector) & 0xff;
  }
  /** A restored processor had a start-up waiting (KVM_MP_STATE_SIPI_RECEIVED). */
  raiseSipi(): void {
    Atomics.or(this.apic.words, this.apic.at + Lapic.events, LapicEvent.SIPI);
  }
  takeSmi(): boolean {
    return this.apic.takeEvents(LapicEvent.SMI) !== 0;
  }
  /** Woken from a paravirtual lock (KVM_HC_KICK_CPU). */
  takeUnhalt(): boolean {
    return this.apic.takeEvents(LapicEvent.UNHALT) !== 0;
  }
  hasNmi(): boolean {
    return this.apic.words[this.apic.at + Lapic.nmis] !== 0;
  }
  /** How many NMIs came, at most 2. */
  takeNmis(): number {
    return Atomics.exchange(this.apic.words, this.apic.at + Lapic.nmis, 0);
  }
  /** KVM_NMI, from this thread or another. */
  queueNmi(): void {
    this.apic.queueNmi();
    this.#machine.notices.wake(this.apic.index);
    this.#machine.notices.flush();
  }
  /** 1 + the vector of a level interrupt that ended and that the monitor's IOAPIC must hear of, or 0 (split chip). */
  takeIoapicEoi(): number {
    return Atomics.exchange(this.apic.words, this.apic.at + Lapic.ioapicEoi, 0);
  }

  /** CR8: the task priority's class. */
  get cr8(): number {
    return (this.apic.taskPriority & 0xf0) >> 4;
  }
  set cr8(value: number) {
    this.apic.taskPriority = (value & 0xf) << 4;
    this.#recheck();
  }

  /** Reads the APIC page or the IOAPIC: the low 32 bits, or -1 where there is neither. */
  readMmio(address: number, size: number): number {
    const offset = address - this.apic.baseAddress;
    if (offset < 0 || offset >= LAPIC_PAGE_BYTES) return this.#machine.readMmio(address, size);
    this.#pvEoi.settle();
    return this.apic.read(offset, size);
  }

  /** Writes there; returns whether it was for one of them. `value` is the low 32 bits. */
  writeMmio(address: number, size: number, value: number): boolean {
    const offset = address - this.apic.baseAddress;
    if (offset < 0 || offset >= LAPIC_PAGE_BYTES) {
      if (!this.#machine.writeMmio(address, size, value)) return false;
    } else {
      this.#pvEoi.settle();
      this.apic.write(offset, size, value);
      this.#recheck();
    }
    this.followRoutes();
    return true;
  }

  readPort(port: number, size: number): number {
    return this.#machine.readPort(port, size);
  }
  writePort(port: number, size: number, value: number): boolean {
    return this.#machine.writePort(port, size, value);
  }

  /** Whether an MSR is answered here. */
  ownsMsr(index: number): boolean {
    const x2apic = index >= Msr.X2APIC && index < Msr.X2APIC_END;
    return x2apic || index === Msr.APIC_BASE || index === Msr.TSC_DEADLINE || index === Msr.PV_EOI;
  }

  /** Reads one: the lower half, with the upper in {@link msrHigh}; -1 where the processor faults. */
  readMsr(index: number): number {
    this.msrHigh = 0;
    this.#pvEoi.settle();
    if (index === Msr.PV_EOI) {
      this.msrHigh = this.#pvEoi.high;
      return this.#pvEoi.low;
    }
    if (index === Msr.APIC_BASE) {
      this.msrHigh = this.apic.baseHigh;
      return this.apic.baseLow;
    }
    if (index === Msr.TSC_DEADLINE) {
      const deadline = this.apic.present ? this.apic.timer.deadline : 0n;
      this.msrHigh = Number(deadline >> 32n);
      return Number(deadline & 0xffffffffn);
    }
    if (!this.apic.x2apic) return -1;
    const offset = (index - Msr.X2APIC) << 4;
    if (offset === Reg.ICR) this.msrHigh = this.apic.register(Reg.ICR2) >>> 0;
    return this.apic.canRead(offset) ? this.apic.readRegister(offset) : -1;
  }

  /** Writes one; false where the processor faults. `host`: the monitor, which may change the APIC's mode freely. */
  writeMsr(index: number, low: number, high: number, host = false): boolean {
    const taken = this.#writeMsr(index, low, high, host);
    this.#recheck();
    if (!host) this.followRoutes();
    return taken;
  }

  /** The register page (KVM_GET_LAPIC, api.rst 4.57). */
  getLapic(): Uint8Array {
    this.#pvEoi.settle();
    return this.apic.getState();
  }
  /** False for an id that is not this processor's (only with 32-bit ids). */
  setLapic(registers: Uint8Array): boolean {
    this.#pvEoi.settle();
    if (!this.apic.setState(registers)) return false;
    this.#machine.restored(this.apic);
    this.#recheck();
    return true;
  }

  /** When {@link expire} has something to do: the APIC's timer or the machine's 8254; Infinity if nothing is set. */
  get nextDeadline(): number {
    return Math.min(this.apic.timer.nextDeadline, this.#machine.nextDeadline);
  }

  expire(now: number): void {
    this.#machine.expire(now);
    if (this.apic.timer.expire(now)) this.apic.deliverLocal(Reg.LVT_TIMER);
    this.#machine.notices.flush();
  }

  /** An interrupt of the processor itself, by its LVT entry: performance counters, heat, corrected errors. */
  deliverLocal(lvt: number): boolean {
    const accepted = this.apic.deliverLocal(lvt);
    this.#machine.notices.flush();
    return accepted;
  }

  #externalWants(): boolean {
    return this.apic.words[this.apic.at + Lapic.external] !== 0 && this.apic.acceptsPic;
  }

  #picWants(): boolean {
    return this.#machine.picOutput && this.apic.acceptsPic;
  }

  #ended(vector: number): void {
    this.#machine.endOfInterrupt(this.apic, vector, this.apic.suppressesEoi);
  }

  #writeMsr(index: number, low: number, high: number, host: boolean): boolean {
    this.#pvEoi.settle();
    if (index === Msr.PV_EOI) return this.#pvEoi.set(low, high);
    if (index === Msr.APIC_BASE) return this.apic.setBase(low, high, host);
    if (index === Msr.TSC_DEADLINE) {
      if (this.apic.present) this.apic.timer.deadline = BigInt(low >>> 0) | (BigInt(high >>> 0) << 32n);
      return true;
    }
    if (!this.apic.x2apic) return false;
    const offset = (index - Msr.X2APIC) << 4;
    if (offset === Reg.ICR) return this.apic.writeIcr(low, high);
    return high === 0 && this.apic.writeRegister(offset, low);
  }

  /** A register of this processor changed what it would take. */
  #recheck(): void {
    if (this.hasInterrupt()) this.#machine.notices.wake(this.apic.index);
    this.#machine.notices.flush();
  }
}

/** For machines that are only interrupt hardware. */
const NO_MEMORY: GuestBytes = { readByte: () => -1, writeByte: () => false };
