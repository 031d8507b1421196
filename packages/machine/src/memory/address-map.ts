/**
 * Where everything lies in a guest's physical memory. Sizes and addresses are bytes.
 *
 *     0              RAM: what a boot loader leaves (boot/), the kernel, the rest
 *     PCI_HOLE       nothing: memory of PCI functions, ECAM, the interrupt chips, up to 4 GiB
 *     4 GiB          the rest of RAM
 *     above it       memory of PCI functions that need much
 */

const KIB = 2 ** 10;
const MIB = 2 ** 20;
const GIB = 2 ** 30;

/** Where RAM ends below 4 GiB, when there is more of it. */
export const PCI_HOLE = 3 * GIB;

/** Memory of PCI functions below 4 GiB. */
export const PCI_WINDOW = { start: PCI_HOLE, sizeBytes: 512 * MIB } as const;

/** Ports of PCI functions, where PCs' firmware has them. */
export const PCI_PORTS = { start: 0xc000, end: 0x10000 } as const;

/**
 * PCI configuration space by memory (ECAM): 1 MiB for a bus, 4 KiB for each function. There is one bus, and Linux asks each
 * one that there may be 32 times for what is on it (arch/x86/pci/legacy.c).
 */
export const ECAM = { start: 0xe000_0000, sizeBytes: MIB, buses: 1 } as const;

/** pc-testdev's memory, where kvm-unit-tests look for it. */
export const TEST_DEVICE_MEMORY = 0xff00_0000;

/** The interrupt chips, where every PC has them. */
export const IOAPIC = 0xfec0_0000;
export const LOCAL_APIC = 0xfee0_0000;

/** Four pages that KVM needs on old Intel processors, below the reset vector's page (api.rst 4.34, 4.42). */
export const IDENTITY_MAP = 0xfffb_c000;
export const TSS = 0xfffb_d000;

export const ABOVE_4G = 4 * GIB;

/** RAM below 1 MiB that is the guest's: the last KiB of 640 is an EBDA on PCs, which kernels leave alone anyway. */
export const LOW_RAM_END = 639 * KIB;
export const HIGH_RAM_START = MIB;

/**
 * What the boot puts where, below 1 MiB. The kernel takes it from there before it uses that memory; ACPI's tables stay,
 * in what the memory map calls reserved.
 */
export const Boot = {
  GDT: 0x500,
  /** Linux's zero page, or PVH's start info, or Multiboot's information. */
  INFO: 0x7000,
  INFO_END: 0x9000,
  /** Identity map of the first 4 GiB in pages of 2 MiB: six pages. */
  PAGE_TABLES: 0x9000,
  STACK: 0x1_0000,
  COMMAND_LINE: 0x2_0000,
  COMMAND_LINE_END: 0x3_0000,
  /** In the range where old systems search for it (ACPI 6.4, 5.2.5.1). */
  ACPI: 0xe_0000,
  ACPI_END: 0x10_0000,
} as const;

/** The window above 4 GiB for PCI functions: after RAM, aligned to its size, as large as the guest's physical addresses allow. */
export function highPciWindow(ramEnd: number, physicalAddressBits: number): { start: number; sizeBytes: number } {
  const space = 2 ** Math.min(physicalAddressBits, 46);
  const sizeBytes = Math.min(space / 4, 64 * GIB);
  const start = Math.ceil(Math.max(ramEnd, ABOVE_4G) / sizeBytes) * sizeBytes;
  if (start + sizeBytes > space) {
    throw new RangeError(
      `${Math.ceil(ramEnd / GIB)} GiB of RAM leave no room for PCI in ${physicalAddressBits} bits of guest physical addresses`,
    );
  }
  return { start, sizeBytes };
}
