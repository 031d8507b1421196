/** The processor's modes as system registers: where small guests, probes and boot protocols begin. */

import type { Segment, Sregs } from "./layout/registers.ts";

/** Control register bits (Intel SDM vol. 3, 2.5). */
export const Cr0 = {
  PE: 1n << 0n,
  MP: 1n << 1n,
  ET: 1n << 4n,
  NE: 1n << 5n,
  WP: 1n << 16n,
  AM: 1n << 18n,
  PG: 1n << 31n,
} as const;
export const Cr4 = {
  PSE: 1n << 4n,
  PAE: 1n << 5n,
  PGE: 1n << 7n,
  OSFXSR: 1n << 9n,
  OSXMMEXCPT: 1n << 10n,
  UMIP: 1n << 11n,
  FSGSBASE: 1n << 16n,
  PCIDE: 1n << 17n,
  OSXSAVE: 1n << 18n,
  SMEP: 1n << 20n,
  SMAP: 1n << 21n,
} as const;
/** IA32_EFER bits (Intel SDM vol. 3, 2.2.1). */
export const Efer = { SCE: 1n << 0n, LME: 1n << 8n, LMA: 1n << 10n, NXE: 1n << 11n } as const;

/** Selectors of the flat segments below: index in a GDT times 8, plus the privilege level. */
export const Selector = { CODE: 0x08, DATA: 0x10, USER_CODE: 0x1b, USER_DATA: 0x23, TSS: 0x28 } as const;

const DATA: Segment = {
  base: 0n,
  limit: 0xffffffff,
  selector: Selector.DATA,
  /** Read, write, accessed. */
  type: 3,
  present: 1,
  dpl: 0,
  db: 1,
  s: 1,
  l: 0,
  g: 1,
  avl: 0,
  unusable: 0,
};
/** Type 11: execute, read, accessed. */
const CODE: Segment = { ...DATA, selector: Selector.CODE, type: 11 };

/** A busy TSS without an I/O bitmap: of 32 bits, and in long mode of 64 (Intel SDM vol. 3, table 3-2). */
export function taskState(selector: number, base = 0n): Segment {
  return { ...DATA, base, limit: 0x67, selector, type: 11, db: 0, s: 0, g: 0 };
}

/** Real mode with every segment at 0, so that an instruction pointer is a physical address. */
export function flatRealMode(sregs: Sregs): Sregs {
  const at0 = (segment: Segment): Segment => ({ ...segment, base: 0n, selector: 0 });
  return {
    ...sregs,
    cs: at0(sregs.cs),
    ds: at0(sregs.ds),
    es: at0(sregs.es),
    fs: at0(sregs.fs),
    gs: at0(sregs.gs),
    ss: at0(sregs.ss),
  };
}

/** 32-bit protected mode, flat segments, no paging. */
export function flatProtectedMode(sregs: Sregs): Sregs {
  return {
    ...sregs,
    cs: CODE,
    ds: DATA,
    es: DATA,
    fs: DATA,
    gs: DATA,
    ss: DATA,
    cr0: Cr0.PE | Cr0.ET | Cr0.NE,
    cr4: 0n,
    efer: 0n,
  };
}

/** Long mode in ring 0 on page tables at `cr3`. */
export function longMode(sregs: Sregs, cr3: bigint): Sregs {
  return {
    ...flatProtectedMode(sregs),
    cs: { ...CODE, db: 0, l: 1 },
    cr0: Cr0.PE | Cr0.MP | Cr0.ET | Cr0.NE | Cr0.WP | Cr0.PG,
    cr3,
    cr4: Cr4.PAE | Cr4.OSFXSR | Cr4.OSXMMEXCPT,
    efer: Efer.LME | Efer.LMA,
  };
}

/** {@link longMode} in ring 3: same memory, user segments. Its pages must be the user's. */
export function longModeUser(sregs: Sregs, cr3: bigint): Sregs {
  const data: Segment = { ...DATA, selector: Selector.USER_DATA, dpl: 3 };
  return {
    ...longMode(sregs, cr3),
    cs: { ...CODE, db: 0, l: 1, selector: Selector.USER_CODE, dpl: 3 },
    ds: data,
    es: data,
    fs: data,
    gs: data,
    ss: data,
  };
}
