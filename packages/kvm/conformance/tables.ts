/** Descriptor tables and page tables in guest memory (Intel SDM vol. 3, chapters 3, 4 and 8). */

import { Selector } from "../src/index.ts";
import { GDT, IDT, PAGE_TABLES, PAGE_TABLES_END, STACK, TSS } from "./layout.ts";

/** For sysret, which takes SS from the entry before that of CS: STAR's upper selector is {@link SYSRET_BASE}. */
export const SYSRET_BASE = 0x33;
/** A 32-bit code segment in a long mode GDT: compatibility mode. */
export const COMPATIBILITY_CODE = 0x48;

/** Base 0, limit 4 GiB; the numbers are access byte and flags as in a GDT that Linux would write. */
const descriptor = {
  code32: 0x00cf9b000000ffffn,
  code64: 0x00af9b000000ffffn,
  data: 0x00cf93000000ffffn,
  userCode32: 0x00cffb000000ffffn,
  userCode64: 0x00affb000000ffffn,
  userData: 0x00cff3000000ffffn,
};

/** The GDT that `Selector` of @lodge/kvm indexes. TR's descriptor takes two entries in long mode. */
export function writeGdt(view: DataView, bits: 32 | 64): void {
  const code = bits === 64 ? descriptor.code64 : descriptor.code32;
  const userCode = bits === 64 ? descriptor.userCode64 : descriptor.userCode32;
  // Available TSS, 0x68 bytes; the guest's ltr would make it busy.
  const tss = 0x0000890000000067n | (BigInt(TSS) << 16n);
  const entries = [0n, code, descriptor.data, userCode, descriptor.userData, tss, 0n];
  entries.push(descriptor.userData, userCode, descriptor.code32);
  entries.forEach((entry, index) => {
    view.setBigUint64(GDT + index * 8, entry, true);
  });
}
export const GDT_LIMIT = 10 * 8 - 1;

/** A TSS whose ring 0 stack is the machine's; everything else is zero. */
export function writeTss(view: DataView, bits: 32 | 64): void {
  view.setUint32(TSS + 4, STACK, true);
  if (bits === 32) view.setUint32(TSS + 8, Selector.DATA, true);
  // No I/O permission bitmap: its offset is past the limit.
  view.setUint16(TSS + 0x66, 0x68, true);
}

/** An interrupt gate, or a real mode vector. `dpl` 3 lets ring 3 use it with int. */
export function writeGate(view: DataView, bits: 16 | 32 | 64, vector: number, handler: number, dpl: 0 | 3 = 0): void {
  if (bits === 16) {
    view.setUint32(vector * 4, handler, true);
    return;
  }
  const at = IDT + vector * (bits === 64 ? 16 : 8);
  view.setUint16(at, handler & 0xffff, true);
  view.setUint16(at + 2, Selector.CODE, true);
  view.setUint16(at + 4, 0x8e00 | (dpl << 13), true);
  view.setUint16(at + 6, handler >>> 16, true);
  if (bits === 64) view.setUint32(at + 8, 0, true);
}

/** Bits of a page table entry. */
export const Page = {
  PRESENT: 1n << 0n,
  WRITE: 1n << 1n,
  USER: 1n << 2n,
  ACCESSED: 1n << 5n,
  DIRTY: 1n << 6n,
  LARGE: 1n << 7n,
  NX: 1n << 63n,
} as const;
const OPEN = Page.PRESENT | Page.WRITE | Page.USER;

const SIZE_4K = 0x1000n;
const SIZE_2M = 0x200000n;

/** Four-level page tables: the first 4 GiB to themselves in 2 MiB pages, open to ring 3, and what is mapped over them. */
export class PageTables {
  readonly #view: DataView;
  #next = PAGE_TABLES;

  constructor(view: DataView) {
    this.#view = view;
    const root = this.#allocate();
    const directories = this.#allocate();
    this.#set(root, 0n, BigInt(directories) | OPEN);
    for (let gib = 0n; gib < 4n; gib++) {
      const directory = this.#allocate();
      this.#set(directories, gib, BigInt(directory) | OPEN);
      for (let index = 0n; index < 512n; index++) {
        this.#set(directory, index, ((gib * 512n + index) * SIZE_2M) | OPEN | Page.LARGE);
      }
    }
  }

  readonly cr3 = BigInt(PAGE_TABLES);

  /** Maps one 4 KiB page, splitting a 2 MiB page that covers it. Flags 0 leave it unmapped. */
  map(linear: bigint, physical: number, flags: bigint): void {
    this.#set(this.#leafTable(linear), (linear >> 12n) & 511n, flags === 0n ? 0n : BigInt(physical) | flags);
  }

  /** The 4 KiB entry of an address that {@link map} has mapped. */
  entry(linear: bigint): bigint {
    return this.#get(this.#leafTable(linear), (linear >> 12n) & 511n);
  }

  #leafTable(linear: bigint): number {
    let table = PAGE_TABLES;
    for (const shift of [39n, 30n, 21n]) {
      const index = (linear >> shift) & 511n;
      const entry = this.#get(table, index);
      if (entry & Page.PRESENT && !(entry & Page.LARGE)) {
        table = Number(entry & 0xffffff000n);
        continue;
      }
      const below = this.#allocate();
      if (entry & Page.LARGE) {
        const start = entry & ~(SIZE_2M - 1n) & ~Page.NX;
        for (let page = 0n; page < 512n; page++) this.#set(below, page, (start + page * SIZE_4K) | OPEN);
      }
      this.#set(table, index, BigInt(below) | OPEN);
      table = below;
    }
    return table;
  }

  #allocate(): number {
    if (this.#next >= PAGE_TABLES_END) throw new RangeError("no room for another page table");
    this.#next += 0x1000;
    return this.#next - 0x1000;
  }

  #get(table: number, index: bigint): bigint {
    return this.#view.getBigUint64(table + Number(index) * 8, true);
  }
  #set(table: number, index: bigint, entry: bigint): void {
    this.#view.setBigUint64(table + Number(index) * 8, entry, true);
  }
}
