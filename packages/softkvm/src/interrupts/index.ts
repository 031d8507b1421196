/** The interrupt hardware of a PC in software: local APICs, IOAPIC, 8259As, 8254 and the routes between them. */

export { X2apicApi } from "./apic-bus.ts";
export { InterruptController, type InterruptPorts, IrqSource } from "./interrupt-controller.ts";
export { LapicEvent, Msr as LapicMsr, Reg as LapicReg } from "./lapic-registers.ts";
export type { ApicClock } from "./lapic-timer.ts";
export type { GuestBytes } from "./pv-eoi.ts";
export { interruptAreaBytes } from "./shared-layout.ts";
export { type ApicFeatures, VcpuInterrupts } from "./vcpu-interrupts.ts";
