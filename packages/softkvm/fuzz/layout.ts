/**
 * Where things lie in the fuzzer's machine, which the processor and the software CPU have each a copy of: the same bytes
 * at the same physical addresses under the same page tables. Up to {@link SLOTS} cases lie in memory at a time, each in
 * a slot of its own.
 */

/** Physical, and mapped for ring 0 at the same linear addresses. Page 0 is not mapped at all. */
export const System = {
  gdt: 0x10000,
  idt: 0x3000,
  tss: 0x4000,
  /** Handlers of exceptions, 16 bytes each. */
  handlers: 0x5000,
  /** The top of ring 0's stack: exceptions leave their frame below it. */
  stackTop: 0x7000,
  pageTables: 0x20000,
  pageTablesEnd: 0x100000,
  end: 0x100000,
} as const;

export const SLOTS = 128;

/**
 * Where slots are in linear memory: far from what small or random numbers hit, in the reach of 31 bits, and so far apart
 * that an index seldom leads from one to the next.
 */
export const SLOT_LINEAR = 0x3c000000;
export const SLOT_LINEAR_SIZE = 0x35000;
/** Data pages are seen here, too, so that 64-bit addresses matter. */
export const HIGH_ALIAS = 0x5abc00000000n;

/** Where slots are in physical memory. */
export const SLOT_PHYSICAL = 0x100000;
export const SLOT_PHYSICAL_SIZE = 0x8000;

/** Behind the slots: the word that names the slot whose case runs. */
export const SHARED_PHYSICAL = SLOT_PHYSICAL + SLOTS * SLOT_PHYSICAL_SIZE;
export const SHARED_LINEAR = SLOT_LINEAR + SLOTS * SLOT_LINEAR_SIZE;
export const MEMORY_BYTES = SHARED_PHYSICAL + 0x10000;

const PAGE = 0x1000;

/**
 * A slot's pages: linear and physical offset from the slot's start, count and rights. What is not named is not mapped.
 * Rights: w write, x execute.
 */
export const SlotPages = {
  /** Initial and final state: see {@link Control}. */
  control: { linear: 0x00000, physical: 0x0000, pages: 1, rights: "w" },
  /** The code that loads the initial state and saves the final one. */
  stubs: { linear: 0x01000, physical: 0x1000, pages: 1, rights: "x" },
  code: { linear: 0x04000, physical: 0x2000, pages: 2, rights: "x" },
  data: { linear: 0x09000, physical: 0x4000, pages: 2, rights: "w" },
  readOnly: { linear: 0x0b000, physical: 0x6000, pages: 1, rights: "" },
} as const;
export type SlotPages = (typeof SlotPages)[keyof typeof SlotPages];

/** Data and the read-only page behind it, as one piece of memory. */
export const DATA_BYTES = 3 * PAGE;
export const CODE_BYTES = 2 * PAGE;
/** Of {@link DATA_BYTES}, what can be written. */
export const WRITABLE_BYTES = 2 * PAGE;

/** Slots from here on have code that can be written: for programs that change themselves. */
export const FIRST_WRITABLE_SLOT = SLOTS - 32;

/** A slot's control page, offsets in bytes. */
export const Control = {
  /** The initial state: 16 general registers by their encoding, RFLAGS, bases of FS and GS. */
  gpr: 0x000,
  flags: 0x080,
  fsBase: 0x088,
  gsBase: 0x090,
  /** Where the case begins: 64 bits, or for 16- and 32-bit code an offset of 32 bits and a selector. */
  entry: 0x098,
  /** Selectors for code that is not 64-bit: es, ss, ds, fs, gs. */
  selectors: 0x0a8,
  /** Where the stub goes on afterwards. */
  next: 0x0b8,
  /** XSAVE area, standard format: 832 bytes. */
  xsave: 0x200,
  /** The final state. */
  outGpr: 0x600,
  outFlags: 0x680,
  /** Which exit was reached. */
  outExit: 0x688,
  outXsave: 0x800,
} as const;

export const XSAVE_BYTES = 832;

/** Stubs in a slot's stub page. */
export const Stub = { load64: 0x000, loadLegacy: 0x200, save: 0x400, exits: 0x600, exitSize: 0x20 } as const;
export const EXITS = 4;

export const linearOf = (slot: number, offset = 0) => SLOT_LINEAR + slot * SLOT_LINEAR_SIZE + offset;
export const physicalOf = (slot: number, offset = 0) => SLOT_PHYSICAL + slot * SLOT_PHYSICAL_SIZE + offset;
/** Where code has to jump to for its case to end, by exit. */
export const exitOf = (slot: number, exit: number) =>
  linearOf(slot, SlotPages.stubs.linear + Stub.exits + exit * Stub.exitSize);

/** Selectors. Each slot has descriptors of its own behind the common ones, in the order of `SlotSelector`. */
export const Selectors = {
  code64: 0x1b,
  data: 0x23,
  code32: 0x43,
  firstOfSlots: 0x100,
  perSlot: 8,
} as const;
export const SlotSelector = { CS: 0, ES: 1, SS: 2, DS: 3, FS: 4, GS: 5 } as const;
export const slotSelector = (slot: number, which: number) =>
  Selectors.firstOfSlots + (slot * Selectors.perSlot + which) * 8 + 3;
export const GDT_BYTES = Selectors.firstOfSlots + SLOTS * Selectors.perSlot * 8;
