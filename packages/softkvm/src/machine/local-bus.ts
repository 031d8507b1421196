/** What answers in the vCPU's own thread: the local APIC, IOAPIC and PICs, doorbells, coalesced writes. */

import type { CoalescedRing, CoalescedZoneRange, Doorbell } from "@lodge/kvm";
import type { VcpuInterrupts } from "../interrupts/index.ts";
import type { LocalMmio } from "../mmu/mmio.ts";
import type { SoftVm } from "./vm.ts";

export class LocalBus implements LocalMmio {
  readonly #vm: SoftVm;
  readonly #ring: CoalescedRing;
  readonly #interrupts: () => VcpuInterrupts;
  #seen = -1;
  /** By address, on either bus: every write that leaves the guest's memory is looked up here. */
  #doorbells = new Map<number, { where: Doorbell; notifier: number }[]>();
  #zones: CoalescedZoneRange[] = [];

  constructor(vm: SoftVm, ring: CoalescedRing, interrupts: () => VcpuInterrupts) {
    this.#vm = vm;
    this.#ring = ring;
    this.#interrupts = interrupts;
  }

  get page(): number {
    return this.#vm.interrupts.hasLocalApics ? this.#interrupts().apic.baseAddress : -1;
  }

  read(gpa: number, size: number): bigint | undefined {
    if (!this.#vm.interrupts.hasLocalApics) return undefined;
    const value = this.#interrupts().readMmio(gpa, size);
    return value < 0 ? undefined : BigInt(value);
  }

  write(gpa: number, size: number, value: bigint): boolean {
    if (this.#vm.interrupts.hasLocalApics && this.#interrupts().writeMmio(gpa, size, Number(value & 0xffffffffn))) {
      return true;
    }
    return this.#doorbell(gpa, size, value, "mmio");
  }

  readPort(port: number, size: number): number | undefined {
    if (!this.#vm.interrupts.hasLocalApics) return undefined;
    const value = this.#interrupts().readPort(port, size);
    return value < 0 ? undefined : value;
  }

  writePort(port: number, size: number, value: number): boolean {
    if (this.#vm.interrupts.hasLocalApics && this.#interrupts().writePort(port, size, value)) return true;
    return this.#doorbell(port, size, BigInt(value >>> 0), "pio");
  }

  /** Doorbells, then coalesced zones. */
  #doorbell(address: number, size: number, value: bigint, bus: "pio" | "mmio"): boolean {
    const { record, board } = this.#vm;
    if (this.#seen !== record.generation) {
      this.#seen = record.generation;
      this.#doorbells = Map.groupBy(record.doorbells(), ({ where }) => where.address);
      this.#zones = record.zones();
    }
    for (const { where, notifier } of this.#doorbells.get(address) ?? []) {
      if (where.bus !== bus) continue;
      if (where.length !== 0 && where.length !== size) continue;
      if (where.datamatch !== undefined && BigInt.asUintN(size * 8, where.datamatch) !== value) continue;
      board.signal(notifier);
      return true;
    }
    for (const zone of this.#zones) {
      if (zone.bus !== bus || address < zone.address || address + size > zone.address + zone.sizeBytes) continue;
      return this.#ring.push(bus, address, size, value);
    }
    return false;
  }
}
