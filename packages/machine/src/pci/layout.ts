/** A PCI function's configuration space (PCI Local Bus 3.0, 6.1 and 6.2; MSI: 6.8.1; MSI-X: 6.8.2). */

export const Config = {
  VENDOR: 0x00,
  DEVICE: 0x02,
  COMMAND: 0x04,
  STATUS: 0x06,
  REVISION: 0x08,
  CLASS: 0x09,
  CACHE_LINE: 0x0c,
  HEADER_TYPE: 0x0e,
  BAR: 0x10,
  SUBSYSTEM_VENDOR: 0x2c,
  SUBSYSTEM: 0x2e,
  CAPABILITIES: 0x34,
  INTERRUPT_LINE: 0x3c,
  INTERRUPT_PIN: 0x3d,
  /** Where capabilities begin. */
  DEVICE_SPECIFIC: 0x40,
  /** What the ports reach; the rest is ECAM's. */
  CONVENTIONAL_BYTES: 0x100,
  BYTES: 0x1000,
} as const;

export const BARS = 6;

export const Command = { IO: 1, MEMORY: 2, BUS_MASTER: 4, INTX_DISABLE: 0x400 } as const;
/** What a driver may write: the above, and parity and SERR#, which mean nothing here. */
export const COMMAND_WRITABLE = 0x0547;

export const StatusBit = { INTERRUPT: 8, CAPABILITIES: 0x10 } as const;

/** The low bits of a BAR. */
export const BarFlag = { IO: 1, MEMORY_64: 4, PREFETCHABLE: 8 } as const;

export const Capability = { VENDOR: 0x09, MSI: 0x05, MSI_X: 0x11 } as const;

/** MSI with a 64-bit address and masks: offsets from the capability, and bits of its control word. */
export const MsiField = {
  CONTROL: 2,
  ADDRESS_LOW: 4,
  ADDRESS_HIGH: 8,
  DATA: 12,
  MASK: 16,
  PENDING: 20,
  CAPABILITY_BYTES: 24,
  ENABLE: 1,
  /** How many messages the function wants, and may have: powers of two. */
  WANTED_SHIFT: 1,
  GRANTED: 0x70,
  GRANTED_SHIFT: 4,
  ADDRESS_64: 0x80,
  MASKABLE: 0x100,
} as const;

/** MSI-X: offsets from the capability, bits of its control word, and the table's entries. */
export const MsiX = {
  CONTROL: 2,
  TABLE: 4,
  PENDING: 8,
  CAPABILITY_BYTES: 12,
  ENABLE: 0x8000,
  FUNCTION_MASK: 0x4000,
  ENTRY_BYTES: 16,
  /** Within an entry. */
  ADDRESS_LOW: 0,
  ADDRESS_HIGH: 4,
  DATA: 8,
  VECTOR_CONTROL: 12,
  MASKED: 1,
} as const;
