/** PCI's four interrupt lines: a line is up while one of the functions that share it wants an interrupt. */

import type { InterruptLine } from "@lodge/devices";
import { SharedLock } from "@lodge/kvm";
import { pciLine } from "../acpi/dsdt.ts";
import { Gsi, PCI_LINES } from "../interrupts.ts";

/** Words: the lock, then for each line the slots that hold it up. */
const LOCK = 0;
const HOLDERS = 1;

export class PciLines {
  readonly #words: Int32Array;
  readonly #lock: SharedLock;
  readonly #line: (gsi: number) => InterruptLine;

  static create(): SharedArrayBuffer {
    return new SharedArrayBuffer((HOLDERS + PCI_LINES) * 4);
  }

  constructor(shared: SharedArrayBuffer, line: (gsi: number) => InterruptLine) {
    this.#words = new Int32Array(shared);
    this.#lock = new SharedLock(this.#words, LOCK);
    this.#line = line;
  }

  /** Pin A of a slot. */
  pinA(slot: number): InterruptLine {
    const gsi = pciLine(slot, 0);
    const line = this.#line(gsi);
    const word = HOLDERS + gsi - Gsi.PCI;
    return {
      set: (high) => {
        this.#lock.acquire();
        const before = this.#words[word]!;
        const after = high ? before | (1 << slot) : before & ~(1 << slot);
        this.#words[word] = after;
        if ((before === 0) !== (after === 0)) line.set(after !== 0);
        this.#lock.release();
      },
    };
  }
}
