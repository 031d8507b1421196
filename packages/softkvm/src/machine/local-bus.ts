/** What answers in the vCPU's own thread: the local APIC, IOAPIC and PICs, doorbells, coalesced writes, the monitor's devices. */

import type { CoalescedRing, CoalescedZoneRange, Doorbell } from "@lodge/kvm";
import type { VcpuInterrupts } from "../interrupts/index.ts";
import type { LocalMmio } from "../mmu/mmio.ts";
import type { NearAccesses } from "./near-accesses.ts";
import type { SoftVm } from "./vm.ts";

export class LocalBus implements LocalMmio {
  readonly #vm: SoftVm;
  readonly #ring: CoalescedRing;
  readonly #interrupts: () => VcpuInterrupts;
  readonly #near: NearAccesses;
  #seen = -1;
  /** Every write that leaves the guest's memory is looked up here. */
  #told: { readonly [bus in Doorbell["bus"]]: Told } = { pio: NOBODY, mmio: NOBODY };

  constructor(vm: SoftVm, ring: CoalescedRing, interrupts: () => VcpuInterrupts, near: NearAccesses) {
    this.#vm = vm;
    this.#ring = ring;
    this.#interrupts = interrupts;
    this.#near = near;
  }

  get page(): number {
    return this.#vm.interrupts.hasLocalApics ? this.#interrupts().apic.baseAddress : -1;
  }

  read(gpa: number, size: number): bigint | undefined {
    const value = this.#vm.interrupts.hasLocalApics ? this.#interrupts().readMmio(gpa, size) : -1;
    return value < 0 ? this.#near.read(gpa, size) : BigInt(value);
  }

  write(gpa: number, size: number, value: bigint): boolean {
    if (this.#vm.interrupts.hasLocalApics && this.#interrupts().writeMmio(gpa, size, Number(value & 0xffffffffn))) {
      return true;
    }
    return this.#tell(this.#of("mmio"), gpa, size, value) || this.#near.write(gpa, size, value);
  }

  /** `count`: how many elements there are in all. Many go to the monitor, at once. */
  readPort(port: number, size: number, count: number): number | undefined {
    const value = this.#vm.interrupts.hasLocalApics ? this.#interrupts().readPort(port, size) : -1;
    if (value >= 0) return value;
    return count === 1 ? this.#near.readPort(port, size) : undefined;
  }

  writePort(port: number, size: number, value: number, count: number): boolean {
    if (this.#vm.interrupts.hasLocalApics && this.#interrupts().writePort(port, size, value)) return true;
    const told = this.#of("pio");
    if (told !== NOBODY && this.#tell(told, port, size, BigInt(value >>> 0))) return true;
    return count === 1 && this.#near.writePort(port, size, value);
  }

  #of(bus: Doorbell["bus"]): Told {
    const { record } = this.#vm;
    if (this.#seen !== record.generation) {
      this.#seen = record.generation;
      const [doorbells, zones] = [record.doorbells(), record.zones()];
      this.#told = { pio: told("pio", doorbells, zones), mmio: told("mmio", doorbells, zones) };
    }
    return this.#told[bus];
  }

  /** Doorbells, then coalesced zones. */
  #tell({ bus, doorbells, zones }: Told, address: number, size: number, value: bigint): boolean {
    for (const { where, notifier } of doorbells.get(address) ?? []) {
      if (where.length !== 0 && where.length !== size) continue;
      if (where.datamatch !== undefined && BigInt.asUintN(size * 8, where.datamatch) !== value) continue;
      this.#vm.board.signal(notifier);
      return true;
    }
    for (const zone of zones) {
      if (address < zone.address || address + size > zone.address + zone.sizeBytes) continue;
      return this.#ring.push(bus, address, size, value);
    }
    return false;
  }
}

interface Bell {
  readonly where: Doorbell;
  readonly notifier: number;
}

/** What hangs on one of the buses. */
interface Told {
  readonly bus: Doorbell["bus"];
  readonly doorbells: ReadonlyMap<number, readonly Bell[]>;
  readonly zones: readonly CoalescedZoneRange[];
}

const NOBODY: Told = { bus: "pio", doorbells: new Map(), zones: [] };

function told(bus: Doorbell["bus"], bells: readonly Bell[], zones: readonly CoalescedZoneRange[]): Told {
  const [ownBells, ownZones] = [
    bells.filter(({ where }) => where.bus === bus),
    zones.filter((zone) => zone.bus === bus),
  ];
  if (ownBells.length + ownZones.length === 0) return NOBODY;
  return { bus, doorbells: Map.groupBy(ownBells, ({ where }) => where.address), zones: ownZones };
}
