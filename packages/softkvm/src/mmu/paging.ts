/** Paging-structure entries and page-fault error codes (Intel SDM vol. 3, 4.3 to 4.7). */

import { Cr0, Cr4, Efer } from "@lodge/kvm";
import { State } from "../cpu/layout.ts";
import type { CpuState } from "../cpu/state.ts";

/** Bits of an entry's low 32 bits. */
export const Pte = {
  P: 1 << 0,
  RW: 1 << 1,
  US: 1 << 2,
  A: 1 << 5,
  D: 1 << 6,
  /** In a directory entry: this is the page, not a table. */
  PS: 1 << 7,
  G: 1 << 8,
  /** Of a page's or table's address. */
  ADDRESS: 0xfffff000,
} as const;

/** Bit 63 of an entry, in its high 32 bits: no execution. */
export const PTE_HIGH_NX = 0x80000000;

/** Page-fault error codes (4.7). */
export const PageFault = { P: 1, W: 2, U: 4, RSVD: 8, I: 16 } as const;

/** What an access is, for a walk. The first three are the bits of {@link PageFault} that they lead to. */
export const Intent = {
  READ: 0,
  WRITE: PageFault.W,
  USER: PageFault.U,
  FETCH: PageFault.I,
  /** A supervisor's access that may reach user pages: SMAP is off, or RFLAGS.AC is set and the access explicit. */
  SMAP_OPEN: 1 << 8,
} as const;

export const cr0 = { WP: Number(Cr0.WP), PG: Number(Cr0.PG) } as const;
export const cr4 = {
  PSE: Number(Cr4.PSE),
  PAE: Number(Cr4.PAE),
  PGE: Number(Cr4.PGE),
  SMEP: Number(Cr4.SMEP),
  SMAP: Number(Cr4.SMAP),
} as const;
export const efer = { LMA: Number(Efer.LMA), NXE: Number(Efer.NXE) } as const;

/** How many levels the paging in force has: 0 for none, 2 for 32-bit, 3 for PAE, 4 for 4-level paging. */
export function pagingLevels(state: CpuState): 0 | 2 | 3 | 4 {
  // >>> 0: as an int32, bit 31 is the sign.
  if ((state.get32(State.cr0) & cr0.PG) >>> 0 === 0) return 0;
  if (state.get32(State.efer) & efer.LMA) return 4;
  return state.get32(State.cr4) & cr4.PAE ? 3 : 2;
}
