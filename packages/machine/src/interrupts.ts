/** Which interrupt line is whose. Lines 0 to 15 are ISA's, and reach the IOAPIC's pin of the same number. */

import type { InterruptLine } from "@lodge/devices";
import type { Vm } from "@lodge/kvm";

export const Gsi = {
  /** The 8254, which ISA has at 0, is at pin 2 of the IOAPIC. */
  TIMER: 2,
  COM2: 3,
  COM1: 4,
  RTC: 8,
  /** ACPI's system control interrupt: level, active high. */
  SCI: 9,
  /** PCI's INTA to INTD, the first of four. */
  PCI: 16,
} as const;

export const PCI_LINES = 4;
export const IOAPIC_PINS = 24;

export function interruptLine(vm: Vm, gsi: number): InterruptLine {
  return {
    set: (high) => {
      vm.setIrqLine(gsi, high);
    },
  };
}
