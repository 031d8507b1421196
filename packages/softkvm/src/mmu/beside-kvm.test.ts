/**
 * Accesses through random 4-level page tables, by the guest on /dev/kvm and by the walker: fault or none, error code,
 * CR2, accessed and dirty bits are compared. Ring 3 runs on the processor, ring 0 in KVM's own walker.
 */

import assert from "node:assert/strict";
import { test } from "node:test";
import { ExitReason, type Segment } from "@lodge/kvm";
import { BesideKvm, type State as GuestState, noKvm } from "../../testing/beside-kvm.ts";
import { Random } from "../../testing/random.ts";
import { NO_FAULT, State, Vector } from "../cpu/layout.ts";
import { Outcome } from "./access.ts";

const { LODGE_SEED, LODGE_CASES, LODGE_LONG } = process.env;
const seed = LODGE_SEED === undefined ? Date.now() % 1_000_000_000 : Number(LODGE_SEED);
const cases = Number(LODGE_CASES ?? (LODGE_LONG ? 50_000 : 2_000));

const MEMORY = 0x20000;
const CODE = 0x1000;
const HANDLERS = 0x2000;
const GDT = 0x4000;
const IDT = 0x5000;
const TSS = 0x6000;
/** The tables of everything above, all bits set; entry 1 of the first leads to the random ones. */
const TABLES = 0x8000;
const RANDOM_TABLES = [0xb000, 0xc000, 0xd000] as const;
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
type Operation = keyof typeof OPERATIONS;

interface Case {
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

function make(random: Random, physicalBits: number): Case {
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

/** "ok", "hole", "internal" or the fault in words. */
function onKvm(both: BesideKvm): string {
  const { end, regs, sregs } = both.runKvm();
  if (end === `exit ${ExitReason.MMIO}`) return "hole";
  if (end !== "halt") return end;
  const vector = (Number(regs.rip) - 1 - HANDLERS) / 4;
  if (vector !== Vector.PF) return "ok";
  const error = new DataView(both.memory.buffer).getUint32(Number(regs.rsp), true);
  return `page fault, error ${error}, at 0x${sregs.cr2.toString(16)}`;
}

function inSoftware(both: BesideKvm, operation: Operation, address: bigint): string {
  const { cpu } = both.soft;
  const va = Number(BigInt.asIntN(64, address));
  const { memory, state: registers } = cpu;
  // What the guest stores: rax.
  registers.set64(State.transfer, 0n);
  if (operation === "fetch") {
    const at = memory.fetch(va);
    if (at >= 0) return "ok";
    if (at === -2) return "hole";
  } else {
    const outcome = operation === "read" ? memory.load(va, 8, 0) : memory.store(va, 8, 0);
    memory.mmio.clear();
    if (outcome === Outcome.OK) return "ok";
    if (outcome === Outcome.EXIT) return "hole";
  }
  const error = registers.get32(State.faultError);
  const where = registers.get64(State.faultAddress);
  assert.equal(registers.get32(State.faultVector), Vector.PF);
  registers.set32(State.faultVector, NO_FAULT);
  return `page fault, error ${error}, at 0x${where.toString(16)}`;
}

test(`${cases} accesses through random page tables do what they do on KVM (seed ${seed})`, { skip: noKvm }, (t) => {
  using both = new BesideKvm(MEMORY);
  const leaf = both.vcpu.getCpuid().find(({ function: number }) => number === 0x80000008);
  const physicalBits = leaf!.eax & 0xff;
  both.soft.cpu.memory.walker.configure({ physicalBits, gigabytePages: true });
  const endings = new Map<string, number>();
  for (let index = 0; index < cases; index++) {
    const made = make(new Random(seed * 1_000_003 + index), physicalBits);
    both.forgetPageTables();
    both.load(made.image, made.state);
    const kvm = onKvm(both);
    // Where the address leads into the tables, the guest ran on in what they look like as code.
    if (made.operation === "fetch" && kvm.startsWith("page") && !kvm.endsWith(` at 0x${made.address.toString(16)}`))
      continue;
    const what = kvm.replace(/ at .*/, "");
    endings.set(what, (endings.get(what) ?? 0) + 1);
    // Fetching from a hole, or running on at random: nothing to compare.
    if (kvm.startsWith("internal") || kvm.startsWith("exit")) continue;
    const soft = inSoftware(both, made.operation, made.address);
    // KVM's emulator has its own ideas of code that is not in memory.
    if (made.operation === "fetch" && soft === "hole") continue;
    const { cr0, cr4, efer, cs } = made.state.sregs;
    const registers = `cr0 ${cr0.toString(16)} cr4 ${cr4.toString(16)} efer ${efer.toString(16)} ring ${cs.dpl}`;
    const message = `${made.operation} of 0x${made.address.toString(16)}, ${registers}, LODGE_SEED=${seed}, case ${index}`;
    assert.equal(soft, kvm, message);
    for (const at of [TABLES, ...RANDOM_TABLES]) {
      const kvmTable = new BigUint64Array(both.memory.buffer, at, 512);
      const softTable = new BigUint64Array(both.soft.bytes.buffer, at, 512);
      for (let slot = 0; slot < 512; slot++) {
        // The guest's own code and stack went through entry 0.
        if (at === TABLES && slot === 0) continue;
        assert.equal(
          softTable[slot]!.toString(16),
          kvmTable[slot]!.toString(16),
          `entry ${slot} at ${at.toString(16)}: ${message}`,
        );
      }
    }
  }
  t.diagnostic(JSON.stringify(Object.fromEntries(endings)));
});
