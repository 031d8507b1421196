/**
 * The PCI bus as the guest reaches it: configuration space by memory (ECAM) and by ports 0xcf8 and 0xcfc, and the
 * functions' BARs, wherever the guest has put them. Each thread makes its own.
 */

import { nothingThere, type Registers } from "@lodge/devices/vcpu-side";
import type { Bus } from "../bus/bus.ts";
import { ECAM } from "../memory/address-map.ts";
import type { ConfigSpace } from "./config-space.ts";
import { Config } from "./layout.ts";

/** A function in its slot of bus 0. */
export interface PciFunction {
  readonly slot: number;
  readonly space: ConfigSpace;
  /** Behind each BAR. */
  readonly bars: readonly (Registers | undefined)[];
  /** What a read of configuration space has to do first; it may have an answer of its own. */
  readConfig?(offset: number, size: number): number | undefined;
  /** Something in configuration space was written. */
  configWritten?(offset: number): void;
}

export const SLOTS = 32;
/** Those that devices can be in: slot 0 is the host bridge's. */
export const DEVICE_SLOTS: readonly number[] = Array.from({ length: SLOTS - 1 }, (_, index) => index + 1);

/** Beside the address register: how often BARs have changed, how often slots have, and which slots are empty, a bit for each. */
const Word = { ADDRESS: 0, GENERATION: 1, PLUGS: 2, EMPTY: 3, COUNT: 4 } as const;

/** The configuration address register (PCI Local Bus 3.0, 3.2.2.3.2). */
const ENABLE = 2 ** 31;
const CONFIG_ADDRESS = 0;
const CONFIG_DATA = 4;

interface Window {
  readonly start: number;
  readonly end: number;
  readonly registers: Registers;
}

export class PciBus {
  /** Configuration space by memory. */
  readonly ecam: Registers;
  /** Ports 0xcf8 to 0xcff. */
  readonly ports: Registers;
  readonly #words: Int32Array;
  readonly #functions = new Map<number, PciFunction>();
  readonly #settle: () => void;
  #plugs = 0;
  #seen = -1;
  #memory: readonly Window[] = [];
  #io: readonly Window[] = [];

  static create(): SharedArrayBuffer {
    return new SharedArrayBuffer(4 * Word.COUNT);
  }

  /** For all threads: functions have gone out of these slots, a bit for each. What a vCPU asks next finds nothing there. */
  static emptied(shared: SharedArrayBuffer, slots: number): void {
    const words = new Int32Array(shared);
    Atomics.or(words, Word.EMPTY, slots);
    Atomics.add(words, Word.GENERATION, 1);
  }

  /** For all threads: a slot has a function now, which was sent to each. */
  static filled(shared: SharedArrayBuffer, slot: number): void {
    const words = new Int32Array(shared);
    Atomics.add(words, Word.PLUGS, 1);
    Atomics.and(words, Word.EMPTY, ~(1 << slot));
    Atomics.add(words, Word.GENERATION, 1);
  }

  /**
   * `resetControl` answers the byte at 0xcf9, in the middle of the address register. `settle` takes what was sent of functions
   * that were plugged in, by {@link put}.
   */
  constructor(
    shared: SharedArrayBuffer,
    functions: readonly PciFunction[],
    resetControl: Registers,
    settle: () => void = () => {},
  ) {
    this.#words = new Int32Array(shared);
    this.#settle = settle;
    for (const one of functions) this.#functions.set(one.slot, one);
    this.ecam = {
      read: (offset, size) => this.#read(ecamSlot(offset), offset % Config.BYTES, size),
      write: (offset, size, value) => this.#write(ecamSlot(offset), offset % Config.BYTES, size, value),
    };
    this.ports = {
      read: (offset, size) => this.#readPort(offset, size, resetControl),
      write: (offset, size, value) => this.#writePort(offset, size, value, resetControl),
    };
  }

  /** Takes its places on the buses. */
  connect(ports: Bus, memory: Bus): void {
    ports.add(0xcf8, 8, this.ports);
    memory.add(ECAM.start, ECAM.sizeBytes, this.ecam);
    memory.addLookup((address) => this.#find(address, "memory"));
    ports.addLookup((address) => this.#find(address, "io"));
  }

  /** Puts a function into its slot, or nothing. */
  put(slot: number, one: PciFunction | undefined): void {
    if (one === undefined) this.#functions.delete(slot);
    else this.#functions.set(slot, one);
  }

  #at(slot: number): PciFunction | undefined {
    this.#look();
    return this.#isEmpty(slot) ? undefined : this.#functions.get(slot);
  }

  #isEmpty(slot: number): boolean {
    return ((Atomics.load(this.#words, Word.EMPTY) >>> slot) & 1) !== 0;
  }

  /** Whether functions have come since the last look. */
  #look(): void {
    const plugs = Atomics.load(this.#words, Word.PLUGS);
    if (plugs === this.#plugs) return;
    this.#plugs = plugs;
    this.#settle();
  }

  #readPort(offset: number, size: number, resetControl: Registers): number {
    const address = Atomics.load(this.#words, Word.ADDRESS) >>> 0;
    if (offset >= CONFIG_DATA) {
      const { slot, register } = decode(address);
      return this.#read(slot, register + offset - CONFIG_DATA, size);
    }
    if (offset === CONFIG_ADDRESS && size === 4) return address;
    return offset === 1 && size === 1 ? resetControl.read(0, 1) : nothingThere(size);
  }

  #writePort(offset: number, size: number, value: number, resetControl: Registers): void {
    if (offset >= CONFIG_DATA) {
      const { slot, register } = decode(Atomics.load(this.#words, Word.ADDRESS) >>> 0);
      this.#write(slot, register + offset - CONFIG_DATA, size, value);
    } else if (offset === CONFIG_ADDRESS && size === 4) {
      Atomics.store(this.#words, Word.ADDRESS, value | 0);
    } else if (offset === 1 && size === 1) {
      resetControl.write(0, 1, value);
    }
  }

  #read(slot: number, register: number, size: number): number {
    const found = this.#at(slot);
    if (found === undefined) return nothingThere(size);
    return found.readConfig?.(register, size) ?? found.space.read(register, size);
  }

  #write(slot: number, register: number, size: number, value: number): void {
    const found = this.#at(slot);
    if (found === undefined) return;
    if (found.space.write(register, size, value)) Atomics.add(this.#words, Word.GENERATION, 1);
    found.configWritten?.(register);
  }

  #find(address: number, kind: "memory" | "io"): Window | undefined {
    const generation = Atomics.load(this.#words, Word.GENERATION);
    if (generation !== this.#seen) {
      this.#seen = generation;
      this.#look();
      this.#memory = this.#windows((bar) => bar !== "io");
      this.#io = this.#windows((bar) => bar === "io");
    }
    const windows = kind === "io" ? this.#io : this.#memory;
    return windows.find(({ start, end }) => address >= start && address < end);
  }

  #windows(wanted: (kind: string) => boolean): Window[] {
    const there = [...this.#functions.values()].filter(({ slot }) => !this.#isEmpty(slot));
    return there.flatMap(({ space, bars }) =>
      bars.flatMap((registers, index) => {
        const layout = space.layout.bars[index];
        const start = space.barAddress(index);
        if (registers === undefined || layout === undefined || start === undefined || !wanted(layout.kind)) return [];
        return [{ start, end: start + layout.sizeBytes, registers }];
      }),
    );
  }
}

/** -1 for what is not function 0 of a slot of bus 0. */
function ecamSlot(offset: number): number {
  const slot = Math.floor(offset / (8 * Config.BYTES));
  return slot < SLOTS && Math.floor(offset / Config.BYTES) % 8 === 0 ? slot : -1;
}

function decode(address: number): { slot: number; register: number } {
  const bus = (address >>> 16) & 0xff;
  const slot = (address >>> 11) & 31;
  const is0 = bus === 0 && ((address >>> 8) & 7) === 0 && address >= ENABLE;
  return { slot: is0 ? slot : -1, register: address & 0xfc };
}
