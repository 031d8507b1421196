/** The local APIC's registers (Intel SDM vol. 3, 11.4.1 and table 11-1) and MSRs (11.12), as KVM has them. */

/** Offsets in the register page. Each register is 32 bits at a multiple of 16 bytes. */
export const Reg = {
  ID: 0x20,
  VERSION: 0x30,
  TPR: 0x80,
  APR: 0x90,
  PPR: 0xa0,
  EOI: 0xb0,
  LDR: 0xd0,
  DFR: 0xe0,
  SVR: 0xf0,
  ISR: 0x100,
  TMR: 0x180,
  IRR: 0x200,
  ESR: 0x280,
  ICR: 0x300,
  ICR2: 0x310,
  LVT_TIMER: 0x320,
  LVT_THERMAL: 0x330,
  LVT_PERF: 0x340,
  LVT_LINT0: 0x350,
  LVT_LINT1: 0x360,
  LVT_ERROR: 0x370,
  TIMER_INITIAL: 0x380,
  TIMER_CURRENT: 0x390,
  TIMER_DIVIDE: 0x3e0,
  /** x2APIC only. */
  SELF_IPI: 0x3f0,
} as const;

/** A register's word in the page. */
export function word(offset: number): number {
  return offset >> 2;
}

export const LAPIC_PAGE_BYTES = 0x1000;
export const LAPIC_DEFAULT_BASE = 0xfee00000;

/** Version 0x14, six LVT entries; the LVT of corrected machine checks (0x2f0) is left out, as KVM does by default. */
export const LVTS = [
  Reg.LVT_TIMER,
  Reg.LVT_THERMAL,
  Reg.LVT_PERF,
  Reg.LVT_LINT0,
  Reg.LVT_LINT1,
  Reg.LVT_ERROR,
] as const;
export const VERSION = 0x14 | ((LVTS.length - 1) << 16);
/** Version register: EOIs need not reach the IOAPICs (11.8.5). KVM offers it where it does not play the IOAPIC. */
export const VERSION_DIRECTED_EOI = 1 << 24;

/** LVT entries (11.5.1). */
export const Lvt = {
  VECTOR: 0xff,
  MODE: 0x700,
  SEND_PENDING: 1 << 12,
  POLARITY: 1 << 13,
  REMOTE_IRR: 1 << 14,
  LEVEL: 1 << 15,
  MASKED: 1 << 16,
} as const;
const PLAIN_LVT = Lvt.MASKED | Lvt.SEND_PENDING | Lvt.VECTOR;
const LINT = PLAIN_LVT | Lvt.MODE | Lvt.POLARITY | Lvt.REMOTE_IRR | Lvt.LEVEL;

/** The bits that software can write. The timer's mode bits come on top, by {@link LapicFeature}. */
export function lvtWritable(offset: number): number {
  switch (offset) {
    case Reg.LVT_LINT0:
    case Reg.LVT_LINT1:
      return LINT;
    case Reg.LVT_THERMAL:
    case Reg.LVT_PERF:
      return PLAIN_LVT | Lvt.MODE;
    default:
      return PLAIN_LVT;
  }
}

/** LVT timer modes in place (11.5.4). */
export const TimerMode = { ONE_SHOT: 0, PERIODIC: 1 << 17, TSC_DEADLINE: 2 << 17 } as const;

/** Spurious-interrupt vector register (11.9). */
export const Svr = { ENABLED: 1 << 8, WRITABLE: 0x3ff, DIRECTED_EOI: 1 << 12 } as const;

/** Delivery modes in place, as in LVT entries, the ICR, redirection entries and messages (11.6.1). */
export const DeliveryMode = {
  FIXED: 0x000,
  LOWEST_PRIORITY: 0x100,
  SMI: 0x200,
  /** KVM's own use of "remote read": wakes a processor that halted in a paravirtual lock. */
  REMOTE_READ: 0x300,
  NMI: 0x400,
  INIT: 0x500,
  STARTUP: 0x600,
  EXTINT: 0x700,
  MASK: 0x700,
} as const;

/** The interrupt command register's low half (11.6.1). */
export const Icr = {
  VECTOR: 0xff,
  LOGICAL: 1 << 11,
  BUSY: 1 << 12,
  ASSERT: 1 << 14,
  LEVEL: 1 << 15,
  SHORTHAND: 3 << 18,
} as const;
/** x2APIC mode refuses a write that sets any of these (KVM's choice of reserved bits: BUSY is ignored). */
export const X2APIC_ICR_RESERVED = 0xfff32000 | 0;

export const Shorthand = { NONE: 0, SELF: 1 << 18, ALL: 2 << 18, OTHERS: 3 << 18 } as const;

export const DFR_FLAT = 0xffffffff | 0;
export const DFR_CLUSTER = 0x0fffffff;
/** The bits that software can write; all others of the DFR read as ones. */
export const DFR_FIXED = 0x0fffffff;
export const LDR_WRITABLE = 0xff000000 | 0;

/** Destinations that mean everyone. */
export const BROADCAST = 0xff;
export const X2APIC_BROADCAST = 0xffffffff;

/** x2APIC: the logical id follows from the id: cluster in the upper half, one bit of 16 in the lower (11.12.10.2). */
export function x2apicLogicalId(id: number): number {
  return ((id >>> 4) << 16) | (1 << (id & 0xf));
}

/** IA32_APIC_BASE (11.4.4), low half. */
export const ApicBase = {
  BOOT_PROCESSOR: 1 << 8,
  X2APIC: 1 << 10,
  ENABLED: 1 << 11,
  /** Bits 7:0 and 9. */
  RESERVED: 0x2ff,
  ADDRESS: 0xfffff000 | 0,
} as const;

/** MSRs that are the local APIC's. */
export const Msr = {
  APIC_BASE: 0x1b,
  TSC_DEADLINE: 0x6e0,
  X2APIC: 0x800,
  X2APIC_END: 0x900,
  /** MSR_KVM_PV_EOI_EN (Documentation/virt/kvm/x86/msr.rst). */
  PV_EOI: 0x4b564d04,
} as const;

/** What of the guest's CPUID changes its local APIC. */
export const LapicFeature = { X2APIC: 1, TSC_DEADLINE: 2, ADDRESS_BITS_SHIFT: 8 } as const;

/** What waits for a processor beside interrupts and NMIs. */
export const LapicEvent = { INIT: 1, SIPI: 2, SMI: 4, UNHALT: 8 } as const;

/** Registers that can be read, as bits by offset / 16; DFR, APR and ICR2 only outside x2APIC mode. */
const READABLE = [
  Reg.ID,
  Reg.VERSION,
  Reg.TPR,
  Reg.PPR,
  Reg.LDR,
  Reg.SVR,
  Reg.ESR,
  Reg.ICR,
  ...LVTS,
  Reg.TIMER_INITIAL,
  Reg.TIMER_CURRENT,
  Reg.TIMER_DIVIDE,
];
const readable = new Uint8Array(0x40);
for (const offset of READABLE) readable[offset >> 4] = 1;
for (const bank of [Reg.ISR, Reg.TMR, Reg.IRR]) readable.fill(1, bank >> 4, (bank >> 4) + 8);
for (const offset of [Reg.APR, Reg.DFR, Reg.ICR2]) readable[offset >> 4] = 2;

/** Whether the register at `offset` (below 0x1000) can be read. */
export function isReadable(offset: number, x2apic: boolean): boolean {
  const kind = readable[offset >> 4] ?? 0;
  return kind === 1 || (kind === 2 && !x2apic);
}
