/**
 * Plugging in and pulling out PCI functions while the guest runs: the registers that ACPI's methods use (acpi/hotplug.ts), a
 * bit for each slot. What a guest throws out although nobody asked it to stays where it is.
 */

import type { Registers } from "@lodge/devices";
import { DEVICE_SLOTS } from "./bus.ts";

/** Offsets of 32-bit registers. Bits of the first two are cleared by writing ones; the third is only written. */
export const HotplugRegister = { PLUGGED: 0, ASKED_OUT: 4, EJECT: 8 } as const;
export const HOTPLUG_PORTS = 12;

const Word = {
  /** Slots that have a function of which the guest does not know yet. */
  PLUGGED: 0,
  /** Slots whose function the guest is to let go of, and does not know yet. */
  ASKED_OUT: 1,
  /** Slots whose function the guest was asked to let go of, and has not. */
  LEAVING: 2,
  /** Slots whose function is out, for the I/O thread. */
  EJECTED: 3,
  COUNT: 4,
} as const;

export class PciHotplug implements Registers {
  readonly #words: Int32Array;
  readonly #ejected: (slots: number) => void;

  static create(): SharedArrayBuffer {
    return new SharedArrayBuffer(4 * Word.COUNT);
  }

  /** `ejected`: the guest has let go of these slots, a bit for each. */
  constructor(shared: SharedArrayBuffer, ejected: (slots: number) => void) {
    this.#words = new Int32Array(shared);
    this.#ejected = ejected;
  }

  read(offset: number, _size: number): number {
    if (offset >= HotplugRegister.EJECT) return 0;
    const word = Atomics.load(this.#words, offset < HotplugRegister.ASKED_OUT ? Word.PLUGGED : Word.ASKED_OUT);
    return word >>> (8 * (offset % 4));
  }

  /** Whole registers only: the methods write nothing else. */
  write(offset: number, size: number, value: number): void {
    if (size !== 4) return;
    if (offset === HotplugRegister.PLUGGED) Atomics.and(this.#words, Word.PLUGGED, ~value);
    else if (offset === HotplugRegister.ASKED_OUT) Atomics.and(this.#words, Word.ASKED_OUT, ~value);
    else if (offset === HotplugRegister.EJECT) {
      // Of two vCPUs that eject the same slot, one finds the bit.
      const out = Atomics.and(this.#words, Word.LEAVING, ~value) & value;
      if (out === 0) return;
      Atomics.or(this.#words, Word.EJECTED, out);
      this.#ejected(out);
    }
  }

  /** The host's side: a slot has a function now. */
  plugged(slot: number): void {
    Atomics.or(this.#words, Word.PLUGGED, 1 << slot);
  }

  /** The host's side: the guest is to let go of a slot's function. */
  askOut(slot: number): void {
    Atomics.or(this.#words, Word.LEAVING, 1 << slot);
    Atomics.or(this.#words, Word.ASKED_OUT, 1 << slot);
  }

  /** The host's side: slots that the guest has let go of since the last call. */
  takeEjected(): number[] {
    const slots = Atomics.exchange(this.#words, Word.EJECTED, 0);
    return DEVICE_SLOTS.filter((slot) => (slots >>> slot) & 1);
  }
}
