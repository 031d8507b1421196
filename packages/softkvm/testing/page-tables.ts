/** Random 4-level page tables, and an access that they let through or do not. */

import type { Segment } from "@lodge/kvm";
import type { State as GuestState } from "./beside-kvm.ts";
import type { Random } from "./random.ts";

export const MEMORY = 0x20000;
const CODE = 0x1000;
export const HANDLERS = 0x2000;
const GDT = 0x4000;
const IDT = 0x5000;
const TSS = 0x6000;
/** The tables of everything above, all bits set; entry 1 of the first leads to the random ones. */
export const TABLES = 0x8000;
export const RANDOM_TABLES = [0xb000, 0xc000, 0xd000] as const;
const PAGES = [0xe000, 0xf000, 0x1b000] as const;
const STACK = 0x18800;
const INNER_STACK = 0x19800;
/** Where the random tables' addresses begin. */
const REGION = 1n << 39n;
const HLT = 0xf4;

const OPERATIONS = {
  /** mov rax, [rbx] */
  read: [0x48, 0x8b, 0x03],
  /** mov [rbx], rax */
  write: [0x48, 0x89, 0x03],
  /** jmp rbx */
  fetch: [0xff, 0xe3],
} as const;
export type Operation = keyof typeof OPERATIONS;

export interface PageTableCase {
  readonly image: Uint8Array;
  readonly state: GuestState;
  readonly operation: Operation;
  readonly address: bigint;
}

/** An entry that mostly leads on: present, writable, a user's. */
function entry(random: Random, target: number, physicalBits: number, large: boolean): bigint {
  let flags = 0n;
  const often = (bit: bigint, probability: number) => {
    if (random.chance(probability)) flags |= bit;
  };
  often(1n, 0.95);
  often(2n, 0.85);
  often(4n, 0.85);
  flags |= BigInt(random.below(16) << 3) & 0x78n;
  if (large) often(0x80n, 0.15);
  often(0x100n, 0.3);
  flags |= BigInt(random.below(8)) << 9n;
  flags |= BigInt(random.below(1 << 11)) << 52n;
  if (random.chance(0.1)) flags |= 1n << BigInt(physicalBits + random.below(52 - physicalBits + 1));
  often(1n << 63n, 0.15);
  return flags | BigInt(target);
}

export function pageTableCase(random: Random, physicalBits: number): PageTableCase {
  const image = new Uint8Array(MEMORY).fill(HLT);
  const view = new DataView(image.buffer);
  image.fill(0, GDT, 0xe000);
  const put = (at: number, value: bigint) => view.setBigUint64(at, BigInt.asUintN(64, value), true);
  const user = random.chance(0.6);
  const level = user ? 3 : 0;
  const base = user ? 0x67n : 0x63n;

  // Fixed: 4 KiB pages for all memory.
  put(TABLES, BigInt(TABLES + 0x1000) | base);
  put(TABLES + 0x1000, BigInt(TABLES + 0x2000) | base);
  put(TABLES + 0x2000, BigInt(0x1a000) | base);
  for (let page = 0; page < MEMORY / 0x1000; page++) {
    // With SMEP and SMAP the handlers and tables are the supervisor's.
    const reached = page === CODE >> 12 || page === STACK >> 12;
    put(0x1a000 + page * 8, BigInt(page * 0x1000) | (reached ? base : 0x63n));
  }

  // Random: an entry of each level, and sometimes a page that begins another.
  const [directories, directory, table] = RANDOM_TABLES;
  const path = [0, 0, 0].map(() => (random.chance(0.5) ? 0 : random.below(512)));
  put(TABLES + 8, entry(random, directories, physicalBits, false));
  put(directories + path[0]! * 8, entry(random, directory, physicalBits, true));
  const aligned = random.chance(0.7) ? 0 : directory;
  put(
    directory + path[1]! * 8,
    random.chance(0.8) ? entry(random, table, physicalBits, true) : entry(random, aligned, physicalBits, true),
  );
  const target = random.chance(0.95) ? random.pick(PAGES) : 0x40000000;
  put(table + path[2]! * 8, entry(random, target, physicalBits, false));
  const offset = random.below(0xff8);
  const address =
    REGION | (BigInt(path[0]!) << 30n) | (BigInt(path[1]!) << 21n) | (BigInt(path[2]!) << 12n) | BigInt(offset);

  const operation = random.pick(["read", "write", "fetch"] as const);
  image.set(OPERATIONS[operation], CODE);
  for (let index = 0; index < 2; index++) {
    put(GDT + 8 + index * 16, 0x00af9b000000ffffn | (BigInt(index * 3) << 45n));
    put(GDT + 16 + index * 16, 0x00cf93000000ffffn | (BigInt(index * 3) << 45n));
  }
  for (let vector = 0; vector < 32; vector++) {
    put(IDT + vector * 16, BigInt(HANDLERS + vector * 4) | (8n << 16n) | (0x8en << 40n));
  }
  put(TSS + 4, BigInt(INNER_STACK));
  return { image, operation, address, state: state(random, level, address) };
}

function state(random: Random, level: 0 | 3, address: bigint): GuestState {
  const common = { base: 0n, limit: 0xffffffff, present: 1, dpl: level, s: 1, g: 1, avl: 0, unusable: 0 };
  const selector = level === 0 ? 0 : 16;
  const cs: Segment = { ...common, selector: 8 + selector + level, type: 11, db: 0, l: 1 };
  const data: Segment = { ...common, selector: 16 + selector + level, type: 3, db: 1, l: 0 };
  const system = { ...common, dpl: 0, s: 0, g: 0, db: 0, l: 0 };
  const choose = (bit: bigint, probability: number) => (random.chance(probability) ? bit : 0n);
  const alignmentFlag = level === 0 ? choose(0x40000n, 0.5) : 0n;
  const zero = { rax: 0n, rcx: 0n, rdx: 0n, rsi: 0n, rdi: 0n, rbp: 0n, r8: 0n, r9: 0n, r10: 0n, r11: 0n };
  return {
    regs: {
      ...zero,
      ...{ r12: 0n, r13: 0n, r14: 0n, r15: 0n, rbx: address, rsp: BigInt(STACK), rip: BigInt(CODE) },
      rflags: 2n | alignmentFlag,
    },
    sregs: {
      cs,
      ...{ ds: data, es: data, fs: data, gs: data, ss: data },
      tr: { ...system, base: BigInt(TSS), limit: 0x67, selector: 0x40, type: 11 },
      ldt: { ...system, limit: 0, selector: 0, type: 2, unusable: 1, present: 0 },
      gdt: { base: BigInt(GDT), limit: 0x7f },
      idt: { base: BigInt(IDT), limit: 0x1ff },
      cr0: 0x80000031n | choose(0x10000n, 0.6),
      cr2: 0n,
      cr3: BigInt(TABLES),
      cr4: 0x620n | choose(1n << 20n, 0.5) | choose(1n << 21n, 0.5) | choose(0x80n, 0.3),
      cr8: 0n,
      efer: 0x501n | choose(0x800n, 0.7),
      apicBase: 0xfee00900n,
      interruptBitmap: [0n, 0n, 0n, 0n],
    },
  };
}
