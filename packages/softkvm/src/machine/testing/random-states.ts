/** Random memory and random processor states, in each mode, for random-state.test.ts. */

import { KvmError, type Segment, type Sregs } from "@lodge/kvm";
import type { Random } from "../../../testing/random.ts";
import type { CodeSize } from "../../decode/instruction.ts";
import { encodings } from "../../decode/testing/encodings.ts";
import type { SoftVcpu } from "../vcpu.ts";

/** With a hole behind it, and the local APIC's page far above. */
export const MEMORY_BYTES = 2 ** 20;
const PAGE = 4096;

export const MODES = [
  ...(["real", "vm86", "protected16", "protected32", "paged32", "pae", "compatibility", "long"] as const),
];
export type ModeName = (typeof MODES)[number];

const isReal = (mode: ModeName) => mode === "real" || mode === "vm86";
const isLong = (mode: ModeName) => mode === "compatibility" || mode === "long";
const isPaged = (mode: ModeName) => mode === "paged32" || mode === "pae" || isLong(mode);
function bitsOf(mode: ModeName): CodeSize {
  if (mode === "long") return 64;
  return isReal(mode) || mode === "protected16" ? 16 : 32;
}

const GDT = 0x1000;
const IDT = 0x2000;
const TABLES = 0x3000;
const RING_0_STACK = 0x8000;
const TSS = 0x9000;

/** Pages of noise, of what looks like page tables, of what looks like descriptors, and of instructions. */
export function fillMemory(random: Random, bytes: Uint8Array<ArrayBufferLike>, mode: ModeName): void {
  const view = new DataView(bytes.buffer, bytes.byteOffset);
  const code = encodings(random.next(), bitsOf(mode), 1);
  const entry = () => {
    const flags = random.chance(0.9) ? (random.next() & 0x1e7) | 3 : random.next() & 0xfff;
    const where = random.chance(0.95) ? random.below(MEMORY_BYTES / PAGE) * PAGE : random.next() & ~0xfff;
    return (where | flags) >>> 0;
  };
  for (let page = 0; page < MEMORY_BYTES; page += PAGE) {
    const kind = random.below(6);
    for (let at = page; at < page + PAGE; at += 8) {
      view.setUint32(at, kind === 1 ? entry() : random.next(), true);
      if (kind === 1)
        view.setUint32(at + 4, mode === "paged32" ? entry() : random.chance(0.05) ? random.next() : 0, true);
      // Present, and mostly a segment or gate that there is.
      else if (kind === 2) view.setUint32(at + 4, random.next() | 0x8000, true);
      else view.setUint32(at + 4, random.next(), true);
    }
    if (kind < 3) continue;
    for (let at = page; at < page + PAGE; ) {
      const next = code.next();
      if (next.done) break;
      bytes.set(next.value.subarray(0, page + PAGE - at), at);
      at += 1 + random.below(next.value.length);
    }
  }
}

/** Tables with which exceptions are delivered, to random code, and everything is mapped. */
export function writeTables(random: Random, bytes: Uint8Array<ArrayBufferLike>, mode: ModeName): void {
  const view = new DataView(bytes.buffer, bytes.byteOffset);
  const long = isLong(mode);
  const code = long ? 0x00af9b000000ffffn : 0x00cf9b000000ffffn;
  const descriptors = [0n, code, 0x00cf93000000ffffn, code | (3n << 45n), 0x00cff3000000ffffn, 0x00009b000000ffffn];
  for (const [index, descriptor] of descriptors.entries()) view.setBigUint64(GDT + index * 8, descriptor, true);
  for (let vector = 0; vector < 256; vector++) {
    const target = 0x10000 + random.below(MEMORY_BYTES - 0x10000);
    if (mode === "real") {
      view.setUint32(IDT + vector * 4, random.next() & 0xffff0fff, true);
      continue;
    }
    const gate = IDT + vector * (long ? 16 : 8);
    const type = random.pick([0xee00, 0x8e00, 0xef00]);
    view.setUint32(gate, ((8 << 16) | (target & 0xffff)) >>> 0, true);
    view.setUint32(gate + 4, ((target & 0xffff0000) | type) >>> 0, true);
    if (long) view.setBigUint64(gate + 8, 0n, true);
  }
  view.setUint32(TSS + 4, RING_0_STACK, true);
  view.setUint32(TSS + 8, 0x10, true);
  // Large pages of the first memory there is, everywhere; in long mode below two tables.
  for (let index = 0; index < 512; index++) {
    if (mode === "paged32") {
      view.setUint32(TABLES + index * 8, 0xe7, true);
      view.setUint32(TABLES + index * 8 + 4, 0xe7, true);
      continue;
    }
    const next = (offset: number, flags: number) => BigInt(TABLES + offset) | BigInt(flags);
    view.setBigUint64(TABLES + index * 8, mode === "pae" ? next(0x2000, 1) : next(0x1000, 7), true);
    view.setBigUint64(TABLES + 0x1000 + index * 8, next(0x2000, 7), true);
    view.setBigUint64(TABLES + 0x2000 + index * 8, 0xe7n, true);
  }
}

/** Puts a vCPU into a random state of a mode. `tables`: on those of {@link writeTables}. */
export function setRandomState(random: Random, vcpu: SoftVcpu, mode: ModeName, tables: boolean): void {
  for (;;) {
    try {
      vcpu.setSregs(randomSystem(random, mode, vcpu.getSregs(), tables));
      break;
    } catch (error) {
      // No processor can be in it: refused as a whole.
      if (!(error instanceof KvmError)) throw error;
    }
  }
  const general = () => (random.chance(0.5) ? random.bits64() : BigInt(random.below(MEMORY_BYTES)));
  const names = ["rax", "rcx", "rdx", "rbx", "rsp", "rbp", "rsi", "rdi"].concat(
    Array.from({ length: 8 }, (_, index) => `r${index + 8}`),
  );
  const registers = Object.fromEntries(names.map((name) => [name, general()]));
  const rflags = BigInt(
    (random.next() & (random.chance(0.1) ? 0x254dd5 : 0x4cd5)) | 2 | (mode === "vm86" ? 0x20000 : 0),
  );
  const rip = BigInt(bitsOf(mode) === 16 ? random.below(0x10000) : 0x10000 + random.below(MEMORY_BYTES - 0x10000));
  vcpu.setRegs({ ...vcpu.getRegs(), ...registers, rip, rflags });
}

function randomSystem(random: Random, mode: ModeName, sregs: Sregs, tables: boolean): Sregs {
  const real = isReal(mode);
  const ring = mode === "vm86" ? 3 : real ? 0 : random.pick([0, 0, 3]);
  const db = bitsOf(mode) === 32 ? 1 : 0;
  const shape: Segment = {
    ...sregs.ds,
    ...{ base: 0n, limit: 0xffffffff, selector: 0x10 | ring, type: 3 },
    ...{ dpl: ring, present: 1, s: 1, g: 1, l: 0, db, avl: 0, unusable: 0 },
  };
  const segment = (type: number): Segment => {
    if (real) {
      const selector = random.below(0xf000);
      return { ...shape, selector, base: BigInt(selector * 16), limit: 0xffff, g: 0, db: 0, type: 3 };
    }
    if (random.chance(0.7)) return { ...shape, type };
    return {
      ...shape,
      base: BigInt(random.below(MEMORY_BYTES)),
      limit: random.chance(0.5) ? random.below(MEMORY_BYTES) : 0xffffffff,
      type: (type & 8) | random.below(8),
      db: random.below(2),
    };
  };
  const some = (bits: bigint) => bits & random.bits64();
  const anywhere = () => ({ base: BigInt(random.below(MEMORY_BYTES)), limit: random.below(0x1000) });
  const tr = { ...shape, selector: 0x28, type: 11, s: 0, dpl: 0, db: 0, g: 0 };
  return {
    ...sregs,
    cs: { ...segment(11), dpl: ring, type: real ? 3 : 11, db, l: mode === "long" ? 1 : 0, unusable: 0 },
    ...{ ds: segment(3), es: segment(3), fs: segment(3), gs: segment(3), ss: { ...segment(3), dpl: ring } },
    ldt: { ...shape, ...anywhere(), selector: 8, type: 2, s: 0, dpl: 0, unusable: random.below(2) },
    tr: tables ? { ...tr, base: BigInt(TSS), limit: 0x67 } : { ...tr, ...anywhere() },
    gdt: tables ? { base: BigInt(GDT), limit: 0x2f } : anywhere(),
    idt: tables ? { base: BigInt(IDT), limit: 0xfff } : anywhere(),
    // ET and NE; at times MP, EM, TS, WP, AM.
    cr0:
      (mode === "real" ? 0x30n : 0x31n) |
      (random.chance(0.3) ? some(0x5000en) : 0x2n) |
      (isPaged(mode) ? 1n << 31n : 0n),
    cr2: random.bits64(),
    cr3: BigInt(tables ? TABLES : random.below(MEMORY_BYTES / PAGE) * PAGE),
    // At times TSD, DE, PGE, UMIP, FSGSBASE, OSXSAVE, SMEP, SMAP; mostly PSE and OSFXSR, OSXMMEXCPT.
    cr4:
      (random.chance(0.9) ? 0x610n : 0n) |
      (random.chance(0.3) ? some(0x35088cn) : 0n) |
      (mode === "pae" || isLong(mode) ? 0x20n : 0n),
    efer: (isLong(mode) ? 0x500n : 0n) | some(0x801n),
  };
}
