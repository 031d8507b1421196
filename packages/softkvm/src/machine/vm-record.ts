/** What all threads know of a machine: its vCPUs, doorbells, interrupts by notifier, clock and switches. */

import { type CoalescedZoneRange, type Doorbell, KvmError, type MsrFilterRange } from "@lodge/kvm";

export const MAX_VCPUS = 64;
const MAX_DOORBELLS = 256;
const MAX_IRQFDS = 256;
const MAX_ZONES = 64;
const MAX_FILTERS = 16;
/** Bits of one filter range's bitmap: KVM_MSR_FILTER_MAX_BITMAP_SIZE is 0x600 bytes. */
const FILTER_BYTES = 0x600;

/** Words of the record. */
const Word = {
  lock: 0,
  closed: 1,
  openVcpus: 2,
  msrExits: 3,
  manualDirtyLog: 4,
  tscKhz: 5,
  doorbells: 6,
  irqfds: 7,
  zones: 8,
  filters: 9,
  denyMsrs: 10,
  /** Moves with each change of doorbells, zones or filters, so that threads keep what they derived from them. */
  generation: 12,
  exceptionPayload: 13,
  hypercallExits: 15,
  clockSettings: 14,
  end: 16,
} as const;

/** By APIC index: the vCPU's slot on the board, plus 1. */
const VCPUS = Word.end;
/** By APIC index: where the vCPU's state is in linear memory, in pages of 64 KiB; kept when it closes. */
const AREAS = VCPUS + MAX_VCPUS;
const DOORBELLS = AREAS + MAX_VCPUS;
const DOORBELL_WORDS = 8;
const IRQFDS = DOORBELLS + MAX_DOORBELLS * DOORBELL_WORDS;
const IRQFD_WORDS = 3;
const ZONES = IRQFDS + MAX_IRQFDS * IRQFD_WORDS;
const ZONE_WORDS = 4;
const FILTERS = ZONES + MAX_ZONES * ZONE_WORDS;
const FILTER_WORDS = 3 + FILTER_BYTES / 4;
/** Two doubles: the clock's zero in host milliseconds, and nanoseconds added to it. */
const CLOCK = Math.ceil((FILTERS + MAX_FILTERS * FILTER_WORDS) / 2) * 2;
const SIZE = (CLOCK + 4) * 4;

/** An interrupt that a notifier raises. Slots are of the board; -1 for no resampling. */
export interface IrqfdEntry {
  readonly notifier: number;
  readonly gsi: number;
  readonly resample: number;
}

export class VmRecord {
  readonly buffer: SharedArrayBuffer;
  readonly #words: Int32Array;
  readonly #clock: Float64Array;

  constructor(buffer = new SharedArrayBuffer(SIZE)) {
    this.buffer = buffer;
    this.#words = new Int32Array(buffer);
    this.#clock = new Float64Array(buffer, CLOCK * 4, 2);
  }

  get closed(): boolean {
    return this.#load(Word.closed) !== 0;
  }
  markClosed(): void {
    Atomics.store(this.#words, Word.closed, 1);
  }
  get openVcpus(): number {
    return this.#load(Word.openVcpus);
  }

  /** MSR accesses that exit: a mask of `MsrExitReason`. */
  get msrExits(): number {
    return this.#load(Word.msrExits);
  }
  set msrExits(mask: number) {
    Atomics.store(this.#words, Word.msrExits, mask);
  }
  get manualDirtyLog(): number {
    return this.#load(Word.manualDirtyLog);
  }
  set manualDirtyLog(flags: number) {
    Atomics.store(this.#words, Word.manualDirtyLog, flags);
  }
  get tscKhz(): number {
    return this.#load(Word.tscKhz);
  }
  set tscKhz(khz: number) {
    Atomics.store(this.#words, Word.tscKhz, khz);
  }
  /** Hypercalls that exit to the monitor: bit n is number n. */
  get hypercallExits(): number {
    return this.#load(Word.hypercallExits);
  }
  set hypercallExits(mask: number) {
    Atomics.store(this.#words, Word.hypercallExits, mask);
  }
  get exceptionPayload(): boolean {
    return this.#load(Word.exceptionPayload) !== 0;
  }
  set exceptionPayload(on: boolean) {
    Atomics.store(this.#words, Word.exceptionPayload, on ? 1 : 0);
  }
  get generation(): number {
    return this.#load(Word.generation);
  }

  /** When the machine's clock began, in milliseconds of the host's clock. */
  get clockOrigin(): number {
    return this.#clock[0]!;
  }
  set clockOrigin(ms: number) {
    this.#clock[0] = ms;
  }
  /** How often the clock was set. */
  get clockSettings(): number {
    return this.#load(Word.clockSettings);
  }

  /** What KVM_SET_CLOCK added, in nanoseconds. */
  get clockOffsetNs(): number {
    return this.#clock[1]!;
  }
  set clockOffsetNs(ns: number) {
    this.#clock[1] = ns;
    Atomics.add(this.#words, Word.clockSettings, 1);
  }

  /** Board slots of the open vCPUs by APIC index; -1 where there is none. */
  vcpuSlot(index: number): number {
    return this.#load(VCPUS + index) - 1;
  }
  vcpuOpened(index: number, slot: number): void {
    Atomics.store(this.#words, VCPUS + index, slot + 1);
    Atomics.add(this.#words, Word.openVcpus, 1);
  }
  vcpuClosed(index: number): void {
    Atomics.store(this.#words, VCPUS + index, 0);
    Atomics.sub(this.#words, Word.openVcpus, 1);
  }
  openSlots(): number[] {
    return Array.from({ length: MAX_VCPUS }, (_, index) => this.vcpuSlot(index)).filter((slot) => slot >= 0);
  }

  // Doorbells.

  addDoorbell(where: Doorbell, notifier: number): void {
    this.#change(() => {
      if (this.#findDoorbell(where, -1) >= 0) throw refused(where, "another notifier is assigned there already");
      const count = this.#words[Word.doorbells]!;
      if (count === MAX_DOORBELLS) throw refused(where, `a machine has at most ${MAX_DOORBELLS} doorbells`);
      const match = BigInt.asUintN(64, where.datamatch ?? 0n);
      this.#words.set(
        [
          where.bus === "pio" ? 1 : 0,
          (where.address % 2 ** 32) | 0,
          Math.floor(where.address / 2 ** 32),
          where.length,
          where.datamatch === undefined ? 0 : 1,
          Number(BigInt.asIntN(32, match)),
          Number(BigInt.asIntN(32, match >> 32n)),
          notifier,
        ],
        DOORBELLS + count * DOORBELL_WORDS,
      );
      this.#words[Word.doorbells] = count + 1;
    });
  }

  removeDoorbell(where: Doorbell, notifier: number): void {
    this.#change(() => {
      const index = this.#findDoorbell(where, notifier);
      if (index < 0) throw refused(where, "no notifier is assigned there");
      this.#removeEntry(Word.doorbells, DOORBELLS, DOORBELL_WORDS, index);
    });
  }

  doorbells(): { where: Doorbell; notifier: number }[] {
    return Array.from({ length: this.#load(Word.doorbells) }, (_, index) => this.#doorbell(index));
  }

  #doorbell(index: number): { where: Doorbell; notifier: number } {
    const at = DOORBELLS + index * DOORBELL_WORDS;
    const word = (field: number) => this.#words[at + field]!;
    const where: Doorbell = {
      bus: word(0) ? "pio" : "mmio",
      address: (word(1) >>> 0) + word(2) * 2 ** 32,
      length: word(3) as Doorbell["length"],
      ...(word(4) ? { datamatch: BigInt(word(5) >>> 0) | (BigInt(word(6) >>> 0) << 32n) } : {}),
    };
    return { where, notifier: word(7) };
  }

  #findDoorbell(where: Doorbell, notifier: number): number {
    return this.doorbells().findIndex(
      (entry) =>
        entry.where.bus === where.bus &&
        entry.where.address === where.address &&
        entry.where.length === where.length &&
        (entry.where.datamatch === where.datamatch || (notifier < 0 && where.datamatch === undefined)) &&
        (notifier < 0 || entry.notifier === notifier),
    );
  }

  // Interrupts by notifier.

  addIrqfd(entry: IrqfdEntry): void {
    this.#change(() => {
      const count = this.#words[Word.irqfds]!;
      if (this.irqfds().some((other) => other.notifier === entry.notifier)) {
        throw new KvmError(
          "KVM_REQUEST_FAILED",
          `irqfd on GSI ${entry.gsi}: this notifier raises an interrupt already`,
        );
      }
      if (count === MAX_IRQFDS) {
        throw new KvmError("KVM_REQUEST_FAILED", `irqfd on GSI ${entry.gsi}: a machine has at most ${MAX_IRQFDS}`);
      }
      this.#words.set([entry.notifier, entry.gsi, entry.resample], IRQFDS + count * IRQFD_WORDS);
      this.#words[Word.irqfds] = count + 1;
    });
  }

  removeIrqfd(notifier: number, gsi: number): IrqfdEntry | undefined {
    return this.#change(() => {
      const index = this.irqfds().findIndex((entry) => entry.notifier === notifier && entry.gsi === gsi);
      if (index < 0) return undefined;
      const entry = this.irqfds()[index];
      this.#removeEntry(Word.irqfds, IRQFDS, IRQFD_WORDS, index);
      return entry;
    });
  }

  irqfds(): IrqfdEntry[] {
    return Array.from({ length: this.#load(Word.irqfds) }, (_, index) => {
      const [notifier, gsi, resample] = this.#words.subarray(IRQFDS + index * IRQFD_WORDS);
      return { notifier: notifier!, gsi: gsi!, resample: resample! };
    });
  }

  // Coalesced zones.

  addZone(zone: CoalescedZoneRange): void {
    this.#change(() => {
      const count = this.#words[Word.zones]!;
      if (count === MAX_ZONES) {
        throw new KvmError("KVM_REQUEST_FAILED", `coalesced zone: a machine has at most ${MAX_ZONES}`);
      }
      const high = Math.floor(zone.address / 2 ** 32);
      this.#words.set(
        [zone.bus === "pio" ? 1 : 0, (zone.address % 2 ** 32) | 0, high, zone.sizeBytes],
        ZONES + count * ZONE_WORDS,
      );
      this.#words[Word.zones] = count + 1;
    });
  }

  removeZone(zone: CoalescedZoneRange): void {
    this.#change(() => {
      const index = this.zones().findIndex(
        (other) => other.bus === zone.bus && other.address >= zone.address && end(other) <= end(zone),
      );
      if (index >= 0) this.#removeEntry(Word.zones, ZONES, ZONE_WORDS, index);
    });
  }

  zones(): CoalescedZoneRange[] {
    return Array.from({ length: this.#load(Word.zones) }, (_, index) => {
      const [pio, low, high, sizeBytes] = this.#words.subarray(ZONES + index * ZONE_WORDS);
      return { bus: pio ? "pio" : "mmio", address: (low! >>> 0) + high! * 2 ** 32, sizeBytes: sizeBytes! };
    });
  }

  // MSR filter.

  setFilter(ranges: readonly MsrFilterRange[], denyByDefault: boolean): void {
    if (ranges.length > MAX_FILTERS) {
      throw new KvmError("KVM_INVALID", `an MSR filter of ${ranges.length} ranges: it has at most ${MAX_FILTERS}`);
    }
    for (const { base, count, allowed } of ranges) {
      if (count > 0 && count <= FILTER_BYTES * 8 && allowed.length * 8 >= count) continue;
      throw new KvmError(
        "KVM_INVALID",
        `MSR range 0x${base.toString(16)}+${count}: it has 1 to ${FILTER_BYTES * 8} MSRs, and a bit for each`,
      );
    }
    this.#change(() => {
      this.#words[Word.denyMsrs] = denyByDefault ? 1 : 0;
      this.#words[Word.filters] = ranges.length;
      for (const [index, { access, base, count, allowed }] of ranges.entries()) {
        const at = FILTERS + index * FILTER_WORDS;
        this.#words.set([ACCESS[access], base | 0, count], at);
        const bits = new Uint8Array(this.buffer, (at + 3) * 4, FILTER_BYTES);
        bits.fill(0);
        bits.set(allowed.subarray(0, FILTER_BYTES));
      }
    });
  }

  /** Whether the filter lets a guest's access pass. */
  allowsMsr(msr: number, write: boolean): boolean {
    const count = this.#load(Word.filters);
    for (let index = 0; index < count; index++) {
      const at = FILTERS + index * FILTER_WORDS;
      const distance = msr - (this.#words[at + 1]! >>> 0);
      if ((this.#words[at]! & (write ? 2 : 1)) === 0 || distance < 0 || distance >= this.#words[at + 2]!) continue;
      const bits = new Uint8Array(this.buffer, (at + 3) * 4, FILTER_BYTES);
      return ((bits[distance >> 3]! >> (distance & 7)) & 1) !== 0;
    }
    return this.#words[Word.denyMsrs] === 0;
  }

  /** Where a vCPU's state is in linear memory: `make` finds room the first time. */
  area(index: number, make: () => number): number {
    return this.#change(() => {
      if (this.#words[AREAS + index] === 0) this.#words[AREAS + index] = make();
      return this.#words[AREAS + index]!;
    });
  }

  #load(word: number): number {
    return Atomics.load(this.#words, word);
  }

  #removeEntry(counter: number, table: number, size: number, index: number): void {
    const count = this.#words[counter]!;
    this.#words.copyWithin(table + index * size, table + (index + 1) * size, table + count * size);
    this.#words[counter] = count - 1;
  }

  /** Changes happen one at a time; they are short. */
  #change<T>(act: () => T): T {
    while (Atomics.compareExchange(this.#words, Word.lock, 0, 1) !== 0) Atomics.wait(this.#words, Word.lock, 1, 1);
    try {
      return act();
    } finally {
      Atomics.add(this.#words, Word.generation, 1);
      Atomics.store(this.#words, Word.lock, 0);
      Atomics.notify(this.#words, Word.lock, 1);
    }
  }
}

const ACCESS = { read: 1, write: 2, both: 3 } as const;

const end = (zone: CoalescedZoneRange) => zone.address + zone.sizeBytes;

function refused(where: Doorbell, why: string): KvmError {
  return new KvmError("KVM_REQUEST_FAILED", `ioeventfd at ${where.bus} 0x${where.address.toString(16)}: ${why}`);
}
