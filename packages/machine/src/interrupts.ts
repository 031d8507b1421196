/**
 * Which interrupt line is whose. Lines 0 to 15 are ISA's, and reach the IOAPIC's pin of the same number, but for the 8254's: ISA has
 * it at 0, the IOAPIC at 2.
 */

import type { InterruptLine } from "@lodge/devices";
import { type GsiRoute, Irqchip, type Vm } from "@lodge/kvm";

export const Gsi = {
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

/** KVM raises this for its 8254. */
const KVM_TIMER = 0;
/** The second 8259's line at the first one, and so no device's. */
const CASCADE = 2;
const PIC_PINS = 8;

/** The machine's lines by KVM's numbers. A new machine of KVM's has the 8254 at the IOAPIC's pin 0, where no PC has it. */
export function interruptRoutes(): GsiRoute[] {
  const pic = (gsi: number): GsiRoute => {
    const irqchip = gsi < PIC_PINS ? Irqchip.PIC_MASTER : Irqchip.PIC_SLAVE;
    return { gsi, type: "irqchip", irqchip, pin: gsi % PIC_PINS };
  };
  const ioapic = (gsi: number): GsiRoute => {
    return { gsi, type: "irqchip", irqchip: Irqchip.IOAPIC, pin: gsi === KVM_TIMER ? Gsi.TIMER : gsi };
  };
  const lines = Array.from({ length: IOAPIC_PINS }, (_, gsi) => gsi).filter((gsi) => gsi !== CASCADE);
  return [...lines.filter((gsi) => gsi < 2 * PIC_PINS).map(pic), ...lines.map(ioapic)];
}

export function interruptLine(vm: Vm, gsi: number): InterruptLine {
  return {
    set: (high) => {
      vm.setIrqLine(gsi, high);
    },
  };
}
