/**
 * KVM's paravirtual end of interrupt (MSR_KVM_PV_EOI_EN, Documentation/virt/kvm/x86/msr.rst): a byte in guest memory
 * says that an interrupt may be ended by clearing it, without an access to the APIC. Offered only while nothing else
 * waits and no IOAPIC has to hear of the end; taken back as soon as the processor looks at its interrupts again.
 */

import type { LocalApic } from "./lapic.ts";
import { Reg } from "./lapic-registers.ts";
import { Lapic } from "./shared-layout.ts";

/** A byte of guest physical memory. */
export interface GuestBytes {
  /** -1 where there is no memory. */
  readByte(gpa: number): number;
  /** False where there is no memory to write. */
  writeByte(gpa: number, value: number): boolean;
}

const ENABLED = 1;
/** The rest of the MSR is an address at a multiple of 4. */
const MISALIGNED = 2;

export class PvEoi {
  readonly #apic: LocalApic;
  readonly #memory: GuestBytes;

  constructor(apic: LocalApic, memory: GuestBytes) {
    this.#apic = apic;
    this.#memory = memory;
  }

  get low(): number {
    return this.#apic.words[this.#apic.at + Lapic.pvEoiLow]! >>> 0;
  }
  get high(): number {
    return this.#apic.words[this.#apic.at + Lapic.pvEoiHigh]! >>> 0;
  }

  /** Writes the MSR; false where the processor faults. */
  set(low: number, high: number): boolean {
    if ((low & MISALIGNED) !== 0) return false;
    if ((low & ENABLED) !== 0 && this.#memory.readByte(gpaOf(low, high)) < 0) return false;
    this.settle();
    this.#apic.words[this.#apic.at + Lapic.pvEoiLow] = low;
    this.#apic.words[this.#apic.at + Lapic.pvEoiHigh] = high;
    return true;
  }

  /** The processor took an interrupt: lets the guest end it by itself, if nothing else waits. */
  offer(): void {
    if ((this.low & ENABLED) === 0 || this.#apic.highest(Reg.IRR) >= 0) return;
    if (this.#memory.writeByte(this.#gpa, 1)) this.#pending = true;
  }

  /** Before the APIC's state is looked at: ends the interrupt that the guest has ended, or takes the offer back. */
  settle(): void {
    if (!this.#pending) return;
    this.#pending = false;
    const byte = this.#memory.readByte(this.#gpa);
    if (byte >= 0 && (byte & 1) === 0) this.#apic.endOfInterrupt();
    else this.#memory.writeByte(this.#gpa, 0);
  }

  get #gpa(): number {
    return gpaOf(this.low, this.high);
  }
  get #pending(): boolean {
    return this.#apic.words[this.#apic.at + Lapic.pvEoiPending] !== 0;
  }
  set #pending(value: boolean) {
    this.#apic.words[this.#apic.at + Lapic.pvEoiPending] = value ? 1 : 0;
  }
}

function gpaOf(low: number, high: number): number {
  return ((low & ~3) >>> 0) + (high >>> 0) * 2 ** 32;
}
