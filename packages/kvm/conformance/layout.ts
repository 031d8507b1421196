/** Where things lie in a case's machine. All of it is guest physical; long mode maps the first 4 GiB to themselves. */

/** The guest's code is loaded and entered here. Below are the real mode's interrupt vectors. */
export const CODE = 0x1000;
/** The top of the stack, which grows down towards the code. */
export const STACK = 0x8000;
/** Descriptor tables for protected and long mode. */
export const GDT = 0x9000;
export const IDT = 0xa000;
export const TSS = 0xb000;
/** The top of ring 3's stack. */
export const USER_STACK = 0xe000;
/** Page tables: six for the identity map, then those that `PageTables.map` adds. */
export const PAGE_TABLES = 0x10000;
export const PAGE_TABLES_END = 0x40000;
/** From here on memory is the case's own. */
export const DATA = 0x40000;
/** How much memory a machine has, unless the case says otherwise: one slot from address 0. */
export const MEMORY_BYTES = 0x100000;
/** An address that no slot backs. */
export const MMIO = 0xd0000000;

/** The chips' registers (Intel SDM vol. 3, 11.4.1; 82093AA datasheet, 3.0). */
export const LAPIC = 0xfee00000;
export const IOAPIC = 0xfec00000;

/**
 * Ports by which guests tell the case where they are; nothing in a machine answers them. A write to CHECK gives an
 * interrupt that waits the time to come: a processor takes it between any two instructions, but a host that interprets
 * looks for it only when it enters the guest, or when that sleeps.
 */
export const Port = { READY: 0x500, VALUE: 0x510, CHECK: 0x518, DONE: 0x520 } as const;
