/** How a machine's RAM is spread over guest physical addresses, and the map that kernels are told of it. */

import type { RamPiece } from "@lodge/devices";
import { ABOVE_4G, Boot, HIGH_RAM_START, LOW_RAM_END, PCI_HOLE } from "./address-map.ts";

/** Pieces of the machine's memory, in order of guest physical address: one below the hole, one above 4 GiB if there is more. */
export function ramPieces(sizeBytes: number): RamPiece[] {
  const low = Math.min(sizeBytes, PCI_HOLE);
  const pieces: RamPiece[] = [{ gpa: 0, sizeBytes: low, offset: 0 }];
  if (sizeBytes > low) pieces.push({ gpa: ABOVE_4G, sizeBytes: sizeBytes - low, offset: low });
  return pieces;
}

/** How much memory they are together. */
export function bytesOf(pieces: readonly RamPiece[]): number {
  return pieces.reduce((sum, { sizeBytes }) => sum + sizeBytes, 0);
}

/** The first address behind RAM. */
export function ramEnd(pieces: readonly RamPiece[]): number {
  const last = pieces.at(-1)!;
  return last.gpa + last.sizeBytes;
}

/** Types of memory as the BIOS's E820 call numbers them; ACPI, PVH and Multiboot took them over. */
export const MemoryType = { RAM: 1, RESERVED: 2, ACPI: 3, NVS: 4 } as const;

export interface MemoryRange {
  readonly start: number;
  readonly sizeBytes: number;
  readonly type: number;
}

/** What the guest is told: RAM but for the legacy hole, ACPI's tables, and what else must be kept. */
export function memoryMap(pieces: readonly RamPiece[], reserved: readonly Omit<MemoryRange, "type">[]): MemoryRange[] {
  const low = pieces[0]!;
  return [
    { start: 0, sizeBytes: LOW_RAM_END, type: MemoryType.RAM },
    { start: LOW_RAM_END, sizeBytes: Boot.ACPI - LOW_RAM_END, type: MemoryType.RESERVED },
    { start: Boot.ACPI, sizeBytes: Boot.ACPI_END - Boot.ACPI, type: MemoryType.RESERVED },
    { start: HIGH_RAM_START, sizeBytes: low.sizeBytes - HIGH_RAM_START, type: MemoryType.RAM },
    ...reserved.map((range) => ({ ...range, type: MemoryType.RESERVED })),
    ...pieces.slice(1).map(({ gpa, sizeBytes }) => ({ start: gpa, sizeBytes, type: MemoryType.RAM })),
  ].toSorted((a, b) => a.start - b.start);
}
