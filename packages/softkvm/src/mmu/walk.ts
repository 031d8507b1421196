/**
 * Page walks: from a linear address to a guest physical one, with the processor's checks and the accessed and dirty
 * bits (Intel SDM vol. 3, 4.3 to 4.8).
 *
 * Linear addresses are numbers: sign-extended, so that each canonical address is exact (-2^47 to 2^47 - 1; 0 to
 * 2^32 - 1 outside long mode). Physical ones are below 2^52.
 *
 * As the kernel's KVM does, accessed bits are set when the whole walk has succeeded; the processor may set those of
 * upper levels in walks that then fault. Left out: protection keys, 5-level paging.
 */

import { State } from "../cpu/layout.ts";
import type { CpuState } from "../cpu/state.ts";
import { type MemoryMap, SlotFlag } from "./memory-map.ts";
import { cr0, cr4, efer, Intent, PageFault, PTE_HIGH_NX, Pte, pagingLevels } from "./paging.ts";

const HIGH = 2 ** 32;

/** A walk that found a page. */
export const WALKED = -1;

export interface WalkOptions {
  /** MAXPHYADDR: CPUID 80000008h EAX bits 0 to 7. */
  physicalBits: number;
  /** CPUID 80000001h EDX bit 26. */
  gigabytePages: boolean;
}

export class Walker {
  /** The guest physical address of the address walked, and 2 to this power the size of its page. */
  gpa = 0;
  pageShift = 12;
  /** Whether the same view may write there, and the page's D bit is set already. */
  writable = false;
  /** The page's entry is global and CR4.PGE set. */
  global = false;
  /** The page is a user page. */
  user = false;

  readonly #state: CpuState;
  readonly #map: MemoryMap;
  readonly #view: DataView;
  readonly #words: Int32Array;
  #gigabytePages = false;
  /** Bits of an entry's high half above the physical address width, without those that long mode ignores, without NX. */
  #reservedHigh = 0;
  /** As {@link #reservedHigh} for PAE, which ignores none. */
  #reservedHighPae = 0;
  #physicalBits = 52;

  /** The entries on the way: where they lie in linear memory (-1: their A bit is not written), their low half. */
  readonly #at = new Float64Array(4);
  readonly #low = new Int32Array(4);
  /** Whether the entry's slot logs dirty pages. */
  readonly #logged = new Int32Array(4);
  #used = 0;
  /** The entry just read. */
  #entryLow = 0;
  #entryHigh = 0;

  /** `buffer` is linear memory. */
  constructor(state: CpuState, map: MemoryMap, buffer: ArrayBufferLike, options: WalkOptions) {
    this.#state = state;
    this.#map = map;
    this.#view = state.view;
    this.#words = new Int32Array(buffer, 0, map.handle.sizeBytes / 4);
    this.configure(options);
  }

  configure({ physicalBits, gigabytePages }: WalkOptions): void {
    this.#physicalBits = physicalBits;
    this.#gigabytePages = gigabytePages;
    // Above what a guest physical address has; long mode ignores the upper 11 bits but NX.
    const address = physicalBits >= 52 ? 0xfffff : 2 ** Math.max(0, physicalBits - 32) - 1;
    this.#reservedHigh = ~address & 0x000fffff;
    this.#reservedHighPae = ~address & 0x7fffffff;
    this.#state.set32(State.reservedBits, 0);
    this.#state.set32(State.reservedBits + 4, this.#reservedHigh);
  }

  /**
   * Walks for an access ({@link Intent}): {@link WALKED} when it is allowed, with the results in this object and the
   * accessed and dirty bits set; else the page fault's error code. With `peek`, no bit is set.
   */
  walk(va: number, intent: number, peek = false): number {
    for (;;) {
      const levels = pagingLevels(this.#state);
      if (levels === 0) {
        this.gpa = va;
        this.pageShift = 12;
        this.writable = true;
        this.global = false;
        this.user = true;
        return WALKED;
      }
      const error = levels === 2 ? this.#walk32(va, intent) : this.#walk64(va, intent, levels);
      if (error !== WALKED || peek) return error;
      if (this.#markUsed((intent & Intent.WRITE) !== 0)) return WALKED;
      // Another processor changed an entry meanwhile: what was read counts no more.
    }
  }

  /** 32-bit paging (4.3). */
  #walk32(va: number, intent: number): number {
    const low = va | 0;
    this.#used = 0;
    if (!this.#read32(((this.#state.get32(State.cr3) & Pte.ADDRESS) >>> 0) + (low >>> 22) * 4)) {
      return this.#absent(intent);
    }
    const directory = this.#entryLow;
    if ((directory & Pte.P) === 0) return this.#absent(intent);
    if (directory & Pte.PS && this.#state.get32(State.cr4) & cr4.PSE) {
      // Bits 13 to 20 are bits 32 to 39 of the address (PSE-36), as far as the processor has those; bit 21 is reserved.
      const high = (directory >>> 13) & 0xff;
      const width = Math.min(40, this.#physicalBits) - 32;
      if (directory & (1 << 21) || high >>> width !== 0) return this.#reserved(intent);
      this.pageShift = 22;
      this.gpa = high * HIGH + ((directory & 0xffc00000) >>> 0) + (low & 0x3fffff);
      return this.#check(intent, directory, directory, 0);
    }
    if (!this.#read32(((directory & Pte.ADDRESS) >>> 0) + ((low >>> 12) & 0x3ff) * 4)) return this.#absent(intent);
    const entry = this.#entryLow;
    if ((entry & Pte.P) === 0) return this.#absent(intent);
    this.pageShift = 12;
    this.gpa = ((entry & Pte.ADDRESS) >>> 0) + (low & 0xfff);
    return this.#check(intent, entry, directory & entry, 0);
  }

  /** PAE (4.4) and 4-level paging (4.5): entries of 64 bits. */
  #walk64(va: number, intent: number, levels: 3 | 4): number {
    const low = va | 0;
    const high = Math.floor(va / HIGH) | 0;
    const nxe = (this.#state.get32(State.efer) & efer.NXE) !== 0;
    const reservedHigh = (levels === 4 ? this.#reservedHigh : this.#reservedHighPae) | (nxe ? 0 : PTE_HIGH_NX);
    this.#used = 0;
    let allowed = Pte.RW | Pte.US;
    let noExecute = 0;
    let table: number;
    let shift: number;
    if (levels === 4) {
      table = tableAddress(this.#state.get32(State.cr3), this.#state.get32(State.cr3 + 4));
      shift = 39;
    } else {
      // The four pointers were checked when cr3 was loaded.
      const pointer = State.pdpte + (low >>> 30) * 8;
      const pointerLow = this.#state.get32(pointer);
      if ((pointerLow & Pte.P) === 0) return this.#absent(intent);
      table = tableAddress(pointerLow, this.#state.get32(pointer + 4));
      shift = 21;
    }
    for (;;) {
      // Nine bits of the address from `shift` on; those of the upper two levels lie across or in the high half.
      const index = (shift === 39 ? high >>> 7 : shift === 30 ? (low >>> 30) | (high << 2) : low >>> shift) & 0x1ff;
      if (!this.#read64(table + index * 8)) return this.#absent(intent);
      const entryLow = this.#entryLow;
      const entryHigh = this.#entryHigh;
      if ((entryLow & Pte.P) === 0) return this.#absent(intent);
      if (entryHigh & reservedHigh) return this.#reserved(intent);
      allowed &= entryLow;
      noExecute |= entryHigh;
      if (shift === 12 || entryLow & Pte.PS) {
        if (shift === 39 || (shift === 30 && !this.#gigabytePages)) return this.#reserved(intent);
        const size = 1 << shift;
        // A large page's address begins above bit 13; bit 12 is its PAT bit.
        if (shift > 12 && entryLow & (size - 2 ** 13)) return this.#reserved(intent);
        const page = tableAddress(entryLow, entryHigh);
        this.pageShift = shift;
        this.gpa = page - (page % size) + (low & (size - 1));
        return this.#check(intent, entryLow, allowed, noExecute);
      }
      table = tableAddress(entryLow, entryHigh);
      shift -= 9;
    }
  }

  /** Access rights (4.6). `leaf`: the page's entry; `allowed`: the AND of all entries; `noExecute`: the OR. */
  #check(intent: number, leaf: number, allowed: number, noExecute: number): number {
    const user = (allowed & Pte.US) !== 0;
    const write = (intent & Intent.WRITE) !== 0;
    let refused: boolean;
    let writable: boolean;
    if (intent & Intent.USER) {
      writable = (allowed & Pte.RW) !== 0;
      refused = !user || (write && !writable);
    } else {
      writable = (allowed & Pte.RW) !== 0 || (this.#state.get32(State.cr0) & cr0.WP) === 0;
      refused = write && !writable;
      if (user) {
        const control = this.#state.get32(State.cr4);
        if (intent & Intent.FETCH) refused = (control & cr4.SMEP) !== 0;
        else if (control & cr4.SMAP && !(intent & Intent.SMAP_OPEN)) refused = true;
      }
    }
    if (intent & Intent.FETCH && noExecute & PTE_HIGH_NX && this.#state.get32(State.efer) & efer.NXE) refused = true;
    if (refused) return PageFault.P | this.#accessBits(intent);
    this.user = user;
    this.writable = writable && (write || (leaf & Pte.D) !== 0);
    this.global = (leaf & Pte.G) !== 0 && (this.#state.get32(State.cr4) & cr4.PGE) !== 0;
    return WALKED;
  }

  #absent(intent: number): number {
    return this.#accessBits(intent);
  }
  #reserved(intent: number): number {
    return PageFault.P | PageFault.RSVD | this.#accessBits(intent);
  }

  /** W and U as the access is; I only where execution can be forbidden (4.7). */
  #accessBits(intent: number): number {
    let error = intent & (PageFault.W | PageFault.U);
    if (intent & Intent.FETCH) {
      const control = this.#state.get32(State.cr4);
      const canForbid = control & cr4.PAE && this.#state.get32(State.efer) & efer.NXE;
      if (control & cr4.SMEP || canForbid) error |= PageFault.I;
    }
    return error;
  }

  /** Reads an entry of 32 bits; false when nothing is there. */
  #read32(gpa: number): boolean {
    if (!this.#locate(gpa)) return false;
    this.#entryLow = this.#view.getInt32(this.#map.offset, true);
    this.#low[this.#used++] = this.#entryLow;
    return true;
  }

  /** Reads an entry of 64 bits; false when nothing is there. */
  #read64(gpa: number): boolean {
    if (!this.#locate(gpa)) return false;
    const at = this.#map.offset;
    // Two loads, as a bigint would cost more: again until no other processor stored between them.
    for (;;) {
      const low = this.#view.getInt32(at, true);
      this.#entryHigh = this.#view.getInt32(at + 4, true);
      if (this.#view.getInt32(at, true) !== low) continue;
      this.#entryLow = low;
      this.#low[this.#used++] = low;
      return true;
    }
  }

  #locate(gpa: number): boolean {
    if (!this.#map.lookup(gpa)) return false;
    this.#at[this.#used] = this.#map.flags & SlotFlag.READ_ONLY ? -1 : this.#map.offset;
    this.#logged[this.#used] = this.#map.flags & SlotFlag.LOG_DIRTY ? this.#map.dirtyPage : -1;
    return true;
  }

  /** Sets the A bits on the way and the D bit of the last entry (4.8); false when an entry is no longer as it was read. */
  #markUsed(write: boolean): boolean {
    for (let index = 0; index < this.#used; index++) {
      const entry = this.#low[index]!;
      const wanted = entry | Pte.A | (write && index === this.#used - 1 ? Pte.D : 0);
      const at = this.#at[index]!;
      if (wanted === entry || at < 0) continue;
      if (Atomics.compareExchange(this.#words, at / 4, entry, wanted) !== entry) return false;
      if (this.#logged[index]! >= 0) this.#map.markDirty(this.#logged[index]!);
    }
    return true;
  }
}

/** The address in an entry: bits 12 to 51. */
function tableAddress(low: number, high: number): number {
  return (high & 0xfffff) * HIGH + ((low & Pte.ADDRESS) >>> 0);
}
