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
  /** By address, on either bus: every write that leaves the guest's memory is looked up here. */
  #doorbells = new Map<number, { where: Doorbell; notifier: number }[]>();
  #zones: CoalescedZoneRange[] = [];

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
    return this.#doorbell(gpa, size, value, "mmio") || this.#near.write(gpa, size, value);
  }

  /** `count`: how many elements there are in all. Many go to the monitor, at once. */
  readPort(port: number, size: number, count: number): number | undefined {
    const value = this.#vm.interrupts.hasLocalApics ? this.#interrupts().readPort(port, size) : -1;
    if (value >= 0) return value;
    return count === 1 ? this.#near.readPort(port, size) : undefined;
  }

  writePort(port: number, size: number, value: number, count: number): boolean {
    if (this.#vm.interrupts.hasLocalApics && this.#interrupts().writePort(port, size, value)) return true;
    if (this.#doorbell(port, size, BigInt(value >>> 0), "pio")) return true;
    return count === 1 && this.#near.writePort(port, size, value);
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
