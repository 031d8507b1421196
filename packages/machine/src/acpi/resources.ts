/** Resource descriptors, of which a device's _CRS is a buffer (ACPI 6.4, section 6.4). */

import { buffer, little, type Term } from "./aml.ts";

const END_TAG = [0x79, 0];

export function resourceTemplate(...descriptors: Term[]): Term {
  return buffer([...descriptors.flat(), ...END_TAG]);
}

/** I/O ports, all 16 bits decoded (6.4.2.5). */
export function ports(start: number, count: number): Term {
  return [0x47, 1, ...little(start, 2), ...little(start, 2), 1, count];
}

/** An ISA interrupt: edge, active high (6.4.2.1). */
export function isaInterrupt(irq: number): Term {
  return [0x22, ...little(1 << irq, 2)];
}

/** Memory at a fixed place, writable (6.4.3.4). */
export function fixedMemory(start: number, sizeBytes: number): Term {
  return [0x86, ...little(9, 2), 1, ...little(start, 4), ...little(sizeBytes, 4)];
}

/** Types of an address space descriptor (6.4.3.5). */
const Space = { MEMORY: 0, IO: 1, BUS: 2 } as const;

/** The window is fixed at both ends; what a bridge passes on, it produces. */
const FIXED_PRODUCER = 0x0c;
/** Cacheability: none; read-write. */
const MEMORY_READ_WRITE = 1;
/** Both ISA and non-ISA ports. */
const ENTIRE_RANGE = 3;

export function busNumbers(first: number, count: number): Term {
  return addressSpace(0x88, 2, Space.BUS, 0, first, count);
}

export function portWindow(start: number, count: number): Term {
  return addressSpace(0x88, 2, Space.IO, ENTIRE_RANGE, start, count);
}

export function memoryWindow(start: number, sizeBytes: number): Term {
  return addressSpace(0x87, 4, Space.MEMORY, MEMORY_READ_WRITE, start, sizeBytes);
}

export function memoryWindow64(start: number, sizeBytes: number): Term {
  return addressSpace(0x8a, 8, Space.MEMORY, MEMORY_READ_WRITE, start, sizeBytes);
}

function addressSpace(tag: number, width: number, type: number, flags: number, start: number, length: number): Term {
  const words = [0, start, start + length - 1, 0, length].flatMap((value) => little(value, width));
  return [tag, ...little(3 + words.length, 2), type, FIXED_PRODUCER, flags, ...words];
}
