/** What each GSI leads to: `KVM_SET_GSI_ROUTING` (api.rst 4.52) in shared memory. Used with the machine's lock held. */

import { type GsiRoute, Irqchip, KvmError } from "@lodge/kvm";
import {
  IOAPIC_PINS,
  IrqchipMode,
  MAX_GSIS,
  PIC_PINS,
  RouteWord,
  Routing,
  type SharedArea,
  Vm,
} from "./shared-layout.ts";

/** {@link RouteWord.kind}: nothing, a message, or up to one pin of the IOAPIC and of each 8259A. */
const Kind = { NONE: 0, MSI: 1, PINS: 2 } as const;
/** Behind the kind, a byte for each chip: 0, or 1 + its pin. */
const CHIP_SHIFT = { [Irqchip.IOAPIC]: 8, [Irqchip.PIC_MASTER]: 16, [Irqchip.PIC_SLAVE]: 24 } as const;

/** KVM's table for a new machine: GSIs are the IOAPIC's pins, and below 16 the 8259As' too. */
export function defaultRoutes(): GsiRoute[] {
  return Array.from({ length: IOAPIC_PINS }, (_, gsi) => {
    const ioapic: GsiRoute = { gsi, type: "irqchip", irqchip: Irqchip.IOAPIC, pin: gsi };
    const irqchip = gsi < 8 ? Irqchip.PIC_MASTER : Irqchip.PIC_SLAVE;
    return gsi < PIC_PINS ? [ioapic, { gsi, type: "irqchip" as const, irqchip, pin: gsi % 8 }] : [ioapic];
  }).flat();
}

export class RoutingTable {
  readonly #words: Int32Array;

  constructor({ words }: SharedArea) {
    this.#words = words;
  }

  /** Replaces the whole table. Nothing is changed if a route cannot be. */
  set(routes: readonly GsiRoute[]): void {
    const table = new Int32Array(MAX_GSIS * RouteWord.end);
    const pins = new Int32Array(PIC_PINS + IOAPIC_PINS).fill(-1);
    if (routes.length > MAX_GSIS) throw refused(`${routes.length} routes`, `there are at most ${MAX_GSIS}`);
    for (const route of routes) this.#enter(table, pins, route);
    this.#words.set(table, Routing.gsis);
    this.#words.set(pins.subarray(0, PIC_PINS), Routing.picGsi);
    this.#words.set(pins.subarray(PIC_PINS), Routing.ioapicGsi);
  }

  /** Where the words of a GSI's route are, or -1 where no GSI has that number. */
  at(gsi: number): number {
    return Number.isInteger(gsi) && gsi >= 0 && gsi < MAX_GSIS ? Routing.gsis + gsi * RouteWord.end : -1;
  }

  isMessage(at: number): boolean {
    return this.#words[at + RouteWord.kind] === Kind.MSI;
  }

  /** The IOAPIC's pin of the route at `at`, or -1. */
  ioapicPin(at: number): number {
    return this.#pin(at, CHIP_SHIFT[Irqchip.IOAPIC]);
  }
  /** The 8259As' pins, 0 to 7 and 8 to 15, or -1. */
  firstPicPin(at: number): number {
    return this.#pin(at, CHIP_SHIFT[Irqchip.PIC_MASTER]);
  }
  secondPicPin(at: number): number {
    const pin = this.#pin(at, CHIP_SHIFT[Irqchip.PIC_SLAVE]);
    return pin < 0 ? -1 : pin + 8;
  }

  /** The GSI of a pin, or -1. */
  gsiOfPic(pin: number): number {
    return this.#words[Routing.picGsi + pin]!;
  }
  gsiOfIoapic(pin: number): number {
    return this.#words[Routing.ioapicGsi + pin]!;
  }

  resamples(gsi: number): boolean {
    return gsi >= 0 && (this.#words[Routing.resample + (gsi >> 5)]! & (1 << (gsi & 31))) !== 0;
  }
  setResamples(gsi: number, on: boolean): void {
    const at = Routing.resample + (gsi >> 5);
    const bit = 1 << (gsi & 31);
    this.#words[at] = on ? this.#words[at]! | bit : this.#words[at]! & ~bit;
  }

  #pin(at: number, shift: number): number {
    return ((this.#words[at + RouteWord.kind]! >>> shift) & 0xff) - 1;
  }

  #enter(table: Int32Array, pins: Int32Array, route: GsiRoute): void {
    const { gsi } = route;
    if (this.at(gsi) < 0) throw refused(`a route of GSI ${gsi}`, `GSIs are 0 to ${MAX_GSIS - 1}`);
    const at = gsi * RouteWord.end;
    const kind = table[at + RouteWord.kind]!;
    const taken = kind !== Kind.NONE;
    if (route.type === "msi") {
      if (taken) throw refused(`a message for GSI ${gsi}`, "a GSI leads to one message, or to pins");
      if ((this.#words[Vm.x2apicApi]! & 1) !== 0 && (route.addressHi & 0xff) !== 0) {
        throw refused(`a message for GSI ${gsi}`, "bits 7:0 of its upper address are not 0");
      }
      table.set([Kind.MSI, route.addressLo, route.addressHi, route.data], at);
      return;
    }

    const { irqchip, pin } = route;
    const shift = CHIP_SHIFT[irqchip];
    const count = irqchip === Irqchip.IOAPIC ? IOAPIC_PINS : PIC_PINS / 2;
    if (this.#words[Vm.mode] !== IrqchipMode.FULL || shift === undefined) {
      throw refused(`a route of GSI ${gsi} to chip ${irqchip}`, "this machine has no such chip");
    }
    if (!Number.isInteger(pin) || pin < 0 || pin >= count) {
      throw refused(`a route of GSI ${gsi} to pin ${pin}`, `the chip's pins are 0 to ${count - 1}`);
    }
    if (kind === Kind.MSI || (taken && ((kind >>> shift) & 0xff) !== 0)) {
      throw refused(`a route of GSI ${gsi} to chip ${irqchip}`, "it leads to a message or to that chip already");
    }
    table[at + RouteWord.kind] = kind | Kind.PINS | ((pin + 1) << shift);
    pins[irqchip === Irqchip.IOAPIC ? PIC_PINS + pin : irqchip * 8 + pin] = gsi;
  }
}

function refused(what: string, why: string): KvmError {
  return new KvmError("KVM_INVALID", `${what}: ${why}`);
}
