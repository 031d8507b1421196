/** Port and memory buses: which device answers an access of the guest. One of each in every vCPU's thread. */

import { nothingThere, type Registers } from "@lodge/devices/vcpu-side";

interface Range {
  readonly start: number;
  readonly end: number;
  readonly registers: Registers;
}

/** What is asked for an address that no fixed range has: PCI functions move. */
export type Lookup = (address: number) => Range | undefined;

export class Bus {
  readonly name: string;
  readonly #ranges: Range[] = [];
  #lookup: Lookup = () => undefined;
  /** Guests mostly ask the same device again. */
  #last: Range | undefined;

  constructor(name: string) {
    this.name = name;
  }

  /** Lets registers answer for `size` addresses. Ranges do not overlap; one that does is our own mistake. */
  add(start: number, size: number, registers: Registers): void {
    const end = start + size;
    const other = this.#ranges.find((range) => start < range.end && range.start < end);
    if (other !== undefined) {
      const text = (from: number, to: number) => `0x${from.toString(16)}-0x${to.toString(16)}`;
      throw new RangeError(`${this.name}: ${text(start, end)} overlaps ${text(other.start, other.end)}`);
    }
    this.#ranges.push({ start, end, registers });
  }

  /** What answers where no range does. It is asked at every access, as its answer may change. */
  addLookup(lookup: Lookup): void {
    const before = this.#lookup;
    this.#lookup = (address) => lookup(address) ?? before(address);
  }

  /** Reads 1 to 4 bytes; what nothing answers is ones. */
  read(address: number, size: number): number {
    const range = this.#find(address);
    if (isWhole(range, address, size)) {
      return (range.registers.read(address - range.start, size) & mask(size)) >>> 0;
    }
    if (size === 1) return nothingThere(1);
    // An access that is odd, or reaches over a range's end, is a row of smaller ones.
    let value = 0;
    for (let byte = 0; byte < size; byte++) value |= this.read(address + byte, 1) << (8 * byte);
    return value >>> 0;
  }

  write(address: number, size: number, value: number): void {
    const range = this.#find(address);
    if (isWhole(range, address, size)) {
      range.registers.write(address - range.start, size, (value & mask(size)) >>> 0);
      return;
    }
    if (size === 1) return;
    for (let byte = 0; byte < size; byte++) this.write(address + byte, 1, (value >>> (8 * byte)) & 0xff);
  }

  #find(address: number): Range | undefined {
    const last = this.#last;
    if (last !== undefined && address >= last.start && address < last.end) return last;
    for (const range of this.#ranges) {
      if (address >= range.start && address < range.end) {
        this.#last = range;
        return range;
      }
    }
    return this.#lookup(address);
  }
}

function isWhole(range: Range | undefined, address: number, size: number): range is Range {
  return range !== undefined && address + size <= range.end && size !== 3;
}

function mask(size: number): number {
  return size === 4 ? -1 : (1 << (8 * size)) - 1;
}
