/**
 * Which vectors' ends IOAPICs hear of, a set for each processor (KVM's `ioapic_handled_vectors`): those that a pin can send
 * it as a level, or whose end somebody waits for, and those that it had not ended when the pin's destination became
 * another one. Made anew when a processor goes on after a redirection entry, a route or an APIC's id has changed
 * ({@link ApicBus.relisten}); so that an end is looked up in one word and mostly takes no lock.
 */

import type { ApicBus } from "./apic-bus.ts";
import type { ApicPort } from "./apic-port.ts";
import { Lapic, VECTOR_WORDS } from "./shared-layout.ts";

export class EoiListening {
  readonly #bus: ApicBus;

  constructor(bus: ApicBus) {
    this.#bus = bus;
  }

  hears({ words, at }: ApicPort, vector: number): boolean {
    return (words[at + Lapic.heard + (vector >> 5)]! & (1 << (vector & 31))) !== 0;
  }

  /** A processor ended a vector that is heard of. */
  ended({ words, at }: ApicPort, vector: number): void {
    if (words[at + Lapic.staleVector] === vector + 1) words[at + Lapic.relisten] = 1;
  }

  /** Before its set is made anew. Returns whether it is: a processor without an APIC keeps what it has. */
  begin(port: ApicPort): boolean {
    const { words, at } = port;
    Atomics.store(words, at + Lapic.relisten, 0);
    if (!port.present) return false;
    words.fill(0, at + Lapic.heard, at + Lapic.heard + VECTOR_WORDS);
    words[at + Lapic.staleVector] = 0;
    return true;
  }

  addVector({ words, at }: ApicPort, vector: number): void {
    words[at + Lapic.heard + (vector >> 5)]! |= 1 << (vector & 31);
  }

  /** A pin or route: its vector is heard of where it goes, and once more where it has gone. */
  add(port: ApicPort, vector: number, destination: number, logical: boolean): void {
    if (!this.#bus.reaches(port, destination, logical)) {
      if (!port.unfinished(vector)) return;
      const at = port.at + Lapic.staleVector;
      port.words[at] = Math.max(port.words[at]!, vector + 1);
    }
    this.addVector(port, vector);
  }
}
