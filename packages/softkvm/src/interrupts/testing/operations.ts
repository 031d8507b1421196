/** What a test does to interrupt hardware, as data: the same list is done to KVM's and to ours. */

import type { GsiRoute, IoapicState, PicState } from "@lodge/kvm";
import { Reg } from "../lapic-registers.ts";

export type Operation =
  /** The guest's own accesses, on the first processor. */
  | { do: "out"; port: number; value: number }
  | { do: "in"; port: number }
  | { do: "store"; address: number; value: number }
  | { do: "load"; address: number }
  | { do: "wrmsr"; index: number; low: number; high: number }
  | { do: "rdmsr"; index: number }
  /** Interrupts are enabled for one instruction: one is taken, if one is there. */
  | { do: "window" }
  /** From outside. `serve`: a vector is being served, or waits, as a register page that is set says. */
  | { do: "serve"; vector: number; level: boolean; waits: boolean }
  /** A register of a processor's page is set, or its APIC base. */
  | { do: "set"; cpu: number; offset: number; value: number }
  | { do: "base"; cpu: number; low: number }
  | { do: "routes"; routes: GsiRoute[] }
  | { do: "pic"; chip: 0 | 1; state: PicState }
  | { do: "ioapic"; state: IoapicState }
  | { do: "line"; gsi: number; high: boolean }
  | { do: "msi"; address: number; data: number };

const GUESTS = new Set<Operation["do"]>(["out", "in", "store", "load", "wrmsr", "rdmsr", "window"]);

/** Whether the first processor does it. */
export function isGuests(operation: Operation): boolean {
  return GUESTS.has(operation.do);
}

/** Puts the vector of a `serve` into a register page. */
export function serve(page: Uint8Array, { vector, level, waits }: Operation & { do: "serve" }): Uint8Array {
  const view = new DataView(page.buffer, page.byteOffset, page.byteLength);
  const bit = 1 << (vector & 31);
  const part = (vector >> 5) * 0x10;
  const bank = part + (waits ? Reg.IRR : Reg.ISR);
  view.setUint32(bank, view.getUint32(bank, true) | bit, true);
  const trigger = view.getUint32(part + Reg.TMR, true);
  view.setUint32(part + Reg.TMR, level ? trigger | bit : trigger & ~bit, true);
  return page;
}

/** Puts the value of a `set` into a register page. */
export function set(page: Uint8Array, { offset, value }: Operation & { do: "set" }): Uint8Array {
  new DataView(page.buffer, page.byteOffset, page.byteLength).setUint32(offset, value, true);
  return page;
}

/** Everything of a machine that can be compared. */
export interface Snapshot {
  first: PicState;
  second: PicState;
  ioapic: IoapicState;
  lapics: Uint8Array[];
  /** Delivery statuses, in order. */
  statuses: number[];
  /** What the guest read and which interrupts it took, in order. */
  log: number[];
}

/** One of the two machines. */
export interface Subject extends Disposable {
  perform(operations: readonly Operation[]): Snapshot;
}

/** In the log: an interrupt was taken. */
export const TAKEN = 0x1000;
/** In the log: an MSR access faulted. */
export const FAULTED = 0xbad0bad0;
