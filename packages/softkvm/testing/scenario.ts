/** Random states and system instructions: descriptor tables, stacks and one instruction, mostly sensible. */

import type { Segment } from "@lodge/kvm";
import { Msr } from "../src/system/msr.ts";
import type { State } from "./beside-kvm.ts";
import type { Random } from "./random.ts";

export const MEMORY = 0x20000;
const CODE = 0x1000;
const HANDLERS = 0x2000;
export const TARGETS = 0x3000;
const GDT = 0x4000;
const GDT_ENTRIES = 64;
const IDT = 0x5000;
const TSS = 0x6000;
const TSS2 = 0x6800;
const LDT = 0x7000;
const TABLES = 0x8000;
const DATA = 0xe000;
export const STACK = 0xf800;
const INNER_STACKS = [0x10800, 0x11800, 0x12800];
const HLT = 0xf4;
/** What ring 0 writes to get to ring 3 and back; and one that no processor has. */
const MSRS: readonly number[] = [
  ...[Msr.SYSENTER_CS, Msr.PAT, Msr.EFER, Msr.STAR, Msr.LSTAR, Msr.CSTAR, Msr.SFMASK],
  ...[Msr.FS_BASE, Msr.GS_BASE, Msr.KERNEL_GS_BASE, Msr.TSC_AUX, 0x12345678],
];
/** Neither with 48 nor with 57 bits. */
const NOT_CANONICAL = 0x5a5an << 48n;

export const MODES = ["real", "protected", "vm86", "long", "compat"] as const;
export type ScenarioMode = (typeof MODES)[number];

export interface Scenario {
  readonly name: string;
  readonly mode: ScenarioMode;
  readonly image: Uint8Array;
  readonly state: State;
}

/** Fixed entries of the GDT: by index, for each privilege level n at `FIRST + n`. */
const CODE32 = 1;
export const DATA32 = 5;
export const CODE64 = 9;
const CODE16 = 13;
const TSS_ENTRY = 18;
const TSS2_ENTRY = 20;
const LDT_ENTRY = 22;
const RANDOM_ENTRIES = 24;

function descriptor(base: number, limit: number, access: number, flags: number): bigint {
  return (
    BigInt(limit & 0xffff) |
    (BigInt(base & 0xffffff) << 16n) |
    (BigInt(access) << 40n) |
    (BigInt((limit >>> 16) & 0xf) << 48n) |
    (BigInt(flags) << 52n) |
    (BigInt(base >>> 24) << 56n)
  );
}
function gate(selector: number, offset: number, access: number, low = 0): bigint {
  return (
    BigInt(offset & 0xffff) |
    (BigInt(selector) << 16n) |
    (BigInt(low) << 32n) |
    (BigInt(access) << 40n) |
    (BigInt(offset >>> 16) << 48n)
  );
}

export interface ScenarioOptions {
  mode?: ScenarioMode;
  /** What TR holds: 11 is a busy 386 TSS; QEMU's TCG only knows 9 there. */
  tssType: number;
  /** Whether some of the inner stacks that the TSS names are impossible. */
  oddStacks: boolean;
}

export function scenario(random: Random, options: ScenarioOptions): Scenario {
  return new Builder(random, options.mode ?? random.pick(MODES), options).build();
}

class Builder {
  readonly random: Random;
  readonly mode: ScenarioMode;
  readonly image = new Uint8Array(MEMORY);
  readonly view = new DataView(this.image.buffer);
  readonly long: boolean;
  readonly bits: 16 | 32 | 64;
  readonly cpl: number;
  readonly regs: Record<string, bigint> = {};
  readonly options: ScenarioOptions;
  name = "";

  constructor(random: Random, mode: ScenarioMode, options: ScenarioOptions) {
    this.options = options;
    this.random = random;
    this.mode = mode;
    this.long = mode === "long" || mode === "compat";
    this.cpl =
      mode === "real" ? 0 : mode === "vm86" ? 3 : random.pick(mode === "protected" ? [0, 0, 1, 2, 3, 3] : [0, 0, 3, 3]);
    this.bits = mode === "real" || mode === "vm86" ? 16 : mode === "long" ? 64 : random.chance(0.8) ? 32 : 16;
  }

  build(): Scenario {
    const { random, view, image } = this;
    // Wherever control goes, it halts.
    image.fill(HLT);
    image.fill(0, GDT, DATA);
    this.#tables();
    for (let at = 0; at < 64; at += 4) view.setUint32(DATA + at, random.next(), true);
    const code = this.#instruction();
    image.set(code, CODE);
    image.fill(HLT, CODE + code.length, CODE + 64);
    return { name: this.name, mode: this.mode, image, state: this.#state() };
  }

  /** A selector of the GDT or LDT that is often useful. */
  selector(): number {
    const { random } = this;
    const kind = random.below(20);
    const level = random.chance(0.7) ? this.cpl : random.below(4);
    const rpl = random.chance(0.7) ? level : random.below(4);
    if (this.mode === "real" || this.mode === "vm86") return random.pick([0, 0x10, 0x100, 0x300]);
    if (kind < 5) return (DATA32 + level) * 8 + rpl;
    if (kind < 9) return (this.bits === 64 || random.chance(0.3) ? CODE64 : CODE32) * 8 + level * 8 + rpl;
    if (kind < 10) return (CODE16 + level) * 8 + rpl;
    if (kind < 11) return random.below(4);
    if (kind < 12) return random.pick([TSS_ENTRY, TSS2_ENTRY, LDT_ENTRY]) * 8 + (random.chance(0.5) ? 0 : rpl);
    if (kind < 18) return (RANDOM_ENTRIES + random.below(GDT_ENTRIES - RANDOM_ENTRIES)) * 8 + rpl;
    if (kind < 19) return random.below(16) * 8 + 4 + rpl;
    return random.below(0x10000);
  }

  #randomDescriptor(): bigint {
    const { random } = this;
    const dpl = random.below(4) << 5;
    const present = random.chance(0.9) ? 0x80 : 0;
    const base = random.chance(0.8) ? 0 : random.below(0x1000);
    const big = random.chance(0.7);
    const limit = big ? 0xfffff : random.pick([0xffff, 0x3fff, 0xfff, 0]);
    const kind = random.below(10);
    const granular = big ? 8 : 0;
    if (kind < 3)
      return descriptor(base, limit, present | dpl | 0x10 | random.below(8), granular | random.pick([4, 0]));
    if (kind < 6) {
      const flags = granular | random.pick(this.long ? [4, 0, 2, 2, 6] : [4, 4, 0]);
      return descriptor(base, limit, present | dpl | 0x18 | random.below(8), flags);
    }
    if (kind < 8) {
      const target = random.chance(0.8)
        ? random.pick(this.long ? [CODE64, CODE64, CODE32] : [CODE32, CODE16]) * 8 + random.below(4) * 8
        : random.below(GDT_ENTRIES) * 8;
      const type = random.pick([12, 12, 4, 5, 14, 15]);
      const offset = random.chance(0.9) ? TARGETS : random.next();
      const leads = type === 5 ? TSS2_ENTRY * 8 : target | random.below(4);
      return gate(leads, offset, present | dpl | type, random.below(4));
    }
    if (kind < 9)
      return descriptor(
        random.pick([TSS2, LDT]),
        random.pick([0x67, 0xff, 0x2b, 0x10]),
        present | dpl | random.pick([9, 11, 2, 1, 3]),
        0,
      );
    return random.bits64() & 0x00ffffff_0000ffffn;
  }

  #tables(): void {
    const { random, view, long } = this;
    for (let level = 0; level < 4; level++) {
      const put = (index: number, value: bigint) => view.setBigUint64(GDT + (index + level) * 8, value, true);
      put(CODE32, descriptor(0, 0xfffff, 0x9b | (level << 5), 0xc));
      put(DATA32, descriptor(0, 0xfffff, 0x93 | (level << 5), 0xc));
      put(CODE64, descriptor(0, 0xfffff, 0x9b | (level << 5), long ? 0xa : 0xc));
      put(CODE16, descriptor(0, 0xffff, 0x9b | (level << 5), 0));
    }
    const system = (index: number, base: number, limit: number, access: number) =>
      view.setBigUint64(GDT + index * 8, descriptor(base, limit, access, 0), true);
    system(TSS_ENTRY, TSS, 0x7ff, 0x8b);
    system(TSS2_ENTRY, TSS2, random.chance(0.9) ? 0x67 : 0x40, random.chance(0.8) ? 0x89 : 0x8b);
    system(LDT_ENTRY, LDT, 0xff, 0x82);
    for (let index = RANDOM_ENTRIES; index < GDT_ENTRIES; index++) {
      view.setBigUint64(GDT + index * 8, this.#randomDescriptor(), true);
    }
    for (let index = 0; index < 16; index++) view.setBigUint64(LDT + index * 8, this.#randomDescriptor(), true);
    this.#interruptTable();
    this.#taskSegments();
    if (long) this.#pageTables();
  }

  #interruptTable(): void {
    const { random, view, long } = this;
    for (let vector = 0; vector < 256; vector++) {
      const handler = HANDLERS + vector * 4;
      if (this.mode === "real") {
        view.setUint16(vector * 4, handler, true);
        view.setUint16(vector * 4 + 2, 0, true);
        continue;
      }
      // Only INT's targets are odd: everything else shall find its handler.
      const odd = vector >= 0x30 && random.chance(0.5);
      const dpl = vector >= 0x30 || random.chance(0.5) ? random.below(4) << 5 : 0;
      const type = odd ? random.pick([5, 6, 7, 14, 15, 12, 9]) : random.pick([14, 15]);
      const present = odd && random.chance(0.1) ? 0 : 0x80;
      const code = odd ? random.pick([CODE32, CODE64, CODE16]) * 8 + random.below(4) * 8 : (long ? CODE64 : CODE32) * 8;
      const selector = type === 5 ? TSS2_ENTRY * 8 : code + (odd ? random.below(4) : 0);
      const ist = long && odd && random.chance(0.3) ? random.below(3) : 0;
      const at = IDT + vector * (long ? 16 : 8);
      view.setBigUint64(at, gate(selector, handler, present | dpl | type, ist), true);
      if (long) view.setBigUint64(at + 8, 0n, true);
    }
  }

  #taskSegments(): void {
    const { random, view, long } = this;
    if (long) {
      for (let level = 0; level < 3; level++)
        view.setBigUint64(TSS + 4 + level * 8, BigInt(INNER_STACKS[level]!), true);
      for (let ist = 0; ist < 7; ist++) view.setBigUint64(TSS + 36 + ist * 8, BigInt(0x13800 + ist * 0x200), true);
    } else {
      for (const tss of [TSS, TSS2]) {
        for (let level = 0; level < 3; level++) {
          view.setUint32(tss + 4 + level * 8, INNER_STACKS[level]!, true);
          const good = !this.options.oddStacks || random.chance(0.9);
          view.setUint16(tss + 8 + level * 8, good ? (DATA32 + level) * 8 + level : this.selector(), true);
        }
      }
    }
    view.setUint16(TSS + 102, 104, true);
    for (let at = 0; at < 128; at += 4) view.setUint32(TSS + 104 + at, random.chance(0.5) ? 0 : random.next(), true);
    if (long) return;
    view.setUint16(TSS, random.chance(0.8) ? TSS2_ENTRY * 8 : this.selector(), true);
    const level = random.pick([0, 0, 1, 3]);
    const task = (offset: number, value: number) => view.setUint32(TSS2 + offset, value, true);
    task(32, TARGETS);
    task(36, 2 | (random.next() & 0x3000 & (random.chance(0.3) ? ~0 : 0)));
    for (let index = 0; index < 8; index++) task(40 + index * 4, random.next());
    task(56, STACK);
    const selectors = [DATA32, CODE32, DATA32, DATA32, DATA32, DATA32];
    for (const [index, entry] of selectors.entries()) {
      const good = random.chance(0.93);
      task(72 + index * 4, good ? (entry + level) * 8 + level : this.selector());
    }
    task(96, random.chance(0.5) ? LDT_ENTRY * 8 : 0);
    view.setUint16(TSS2 + 102, 104, true);
  }

  /** Identity map of the first 2 MiB, for ring 3 where that is needed. */
  #pageTables(): void {
    const user = this.cpl === 3 || this.random.chance(0.5) ? 4n : 0n;
    this.view.setBigUint64(TABLES, BigInt(TABLES + 0x1000) | 3n | user, true);
    this.view.setBigUint64(TABLES + 0x1000, BigInt(TABLES + 0x2000) | 3n | user, true);
    this.view.setBigUint64(TABLES + 0x2000, 0x83n | user, true);
  }

  /** Puts a value of the operand size on the stack; the first one put is the first one popped. */
  #stack(size: number, values: readonly (number | bigint)[]): void {
    values.forEach((value, index) => {
      const at = STACK + index * size;
      if (size === 8) this.view.setBigUint64(at, BigInt(value), true);
      else if (size === 4) this.view.setUint32(at, Number(BigInt.asUintN(32, BigInt(value))), true);
      else this.view.setUint16(at, Number(BigInt.asUintN(16, BigInt(value))), true);
    });
  }

  #target(): number {
    return this.random.chance(0.9) ? TARGETS : this.random.next();
  }

  #returnFlags(): number {
    const { random } = this;
    // Without TF: single steps have tests of their own.
    return (random.next() & 0x247ed5) | 2 | (random.chance(0.05) ? 0x20000 : 0);
  }

  /** ModRM bytes of [DATA]. */
  #atData(reg: number): number[] {
    return this.bits === 16
      ? [(reg << 3) | 6, DATA & 0xff, DATA >> 8]
      : this.bits === 32
        ? [(reg << 3) | 5, DATA & 0xff, DATA >> 8, 0, 0]
        : [(reg << 3) | 4, 0x25, DATA & 0xff, DATA >> 8, 0, 0];
  }

  #instruction(): number[] {
    const { random, bits } = this;
    const generators = this.#generators();
    const [name, make] = random.pick(Object.entries(generators));
    this.name = name;
    const wide = bits === 64 && random.chance(0.6);
    const prefix = wide ? [0x48] : random.chance(0.15) ? [0x66] : [];
    const operandSize = wide ? 8 : prefix.length > 0 ? (bits === 16 ? 4 : 2) : bits === 16 ? 2 : 4;
    return [...prefix, ...make(operandSize)];
  }

  #generators(): Record<string, (size: number) => number[]> {
    const { random, regs, view } = this;
    const selectorInAx = () => {
      regs.rax = BigInt(this.selector());
    };
    const farPointer = (size: number) => {
      if (size === 8) view.setBigUint64(DATA, BigInt(this.#target()), true);
      else view.setUint32(DATA, this.#target(), true);
      view.setUint16(DATA + size, this.selector(), true);
    };
    const common: Record<string, (size: number) => number[]> = {
      "mov sreg": () => {
        selectorInAx();
        return [0x8e, 0xc0 | (random.below(6) << 3)];
      },
      "mov from sreg": () => [0x8c, 0xc0 | (random.below(6) << 3)],
      "pop fs/gs": () => {
        this.#stack(8, [this.selector()]);
        return [0x0f, random.pick([0xa1, 0xa9])];
      },
      "push fs/gs": () => [0x0f, random.pick([0xa0, 0xa8])],
      "lss/lfs/lgs": (size) => {
        farPointer(size);
        return [0x0f, random.pick([0xb2, 0xb4, 0xb5]), ...this.#atData(0)];
      },
      "jmp far mem": (size) => {
        farPointer(size);
        return [0xff, ...this.#atData(5)];
      },
      "call far mem": (size) => {
        farPointer(size);
        return [0xff, ...this.#atData(3)];
      },
      retf: (size) => {
        this.#stack(size, [this.#target(), this.selector(), STACK + 0x40, this.selector()]);
        return random.chance(0.5) ? [0xcb] : [0xca, 8, 0];
      },
      iret: (size) => {
        const selectors = Array.from({ length: 4 }, () => random.below(0x200));
        this.#stack(size, [
          this.#target(),
          this.selector(),
          this.#returnFlags(),
          STACK + 0x40,
          this.selector(),
          ...selectors,
        ]);
        return [0xcf];
      },
      int: () => [0xcd, random.pick([0x30, 0x31, 0x32, 0x40, 0x80, 0xff, 3, 14, 0x21])],
      int3: () => [0xcc],
      int1: () => [0xf1],
      "lar/lsl": () => {
        regs.rcx = BigInt(this.selector());
        return [0x0f, random.pick([2, 3]), 0xc1];
      },
      "verr/verw": () => {
        selectorInAx();
        return [0x0f, 0x00, random.pick([0xe0, 0xe8])];
      },
      "lldt/ltr": () => {
        regs.rax = BigInt(random.chance(0.6) ? random.pick([LDT_ENTRY, TSS2_ENTRY, TSS_ENTRY]) * 8 : this.selector());
        return [0x0f, 0x00, random.pick([0xd0, 0xd8])];
      },
      "sldt/str": () => [0x0f, 0x00, random.pick([0xc0, 0xc8])],
      "sgdt/sidt": () => [0x0f, 0x01, ...this.#atData(random.below(2))],
      "lgdt/lidt": () => {
        view.setUint16(DATA, 0x1ff, true);
        view.setBigUint64(DATA + 2, random.chance(0.9) ? BigInt(GDT) : NOT_CANONICAL | BigInt(random.next()), true);
        return [0x0f, 0x01, ...this.#atData(2)];
      },
      smsw: () => [0x0f, 0x01, 0xe0],
      lmsw: () => {
        regs.rax = BigInt(random.below(16));
        return [0x0f, 0x01, 0xf0];
      },
      clts: () => [0x0f, 0x06],
      pushf: () => [0x9c],
      popf: (size) => {
        this.#stack(size, [this.#returnFlags()]);
        return [0x9d];
      },
      "cli/sti": () => [random.pick([0xfa, 0xfb])],
      "mov from cr": () => [0x0f, 0x20, 0xc0 | (random.pick([0, 2, 3, 4]) << 3)],
      "mov to cr0": () => {
        const bits = [0x1n, 0x2n, 0x4n, 0x8n, 0x10000n, 0x40000n, 0x20000000n, 0x40000000n, 0x80000000n];
        regs.rax = this.#cr0() ^ random.pick(bits) ^ (random.chance(0.5) ? random.pick(bits) : 0n);
        return [0x0f, 0x22, 0xc0];
      },
      "mov to cr4": () => {
        const bits = [0x4n, 0x8n, 0x10n, 0x20n, 0x80n, 0x200n, 0x400n, 1n << 16n, 1n << 30n];
        regs.rax = this.#cr4() ^ random.pick(bits);
        return [0x0f, 0x22, 0xe0];
      },
      "mov to cr3": () => {
        // In use only with tables that lead on; bits that no address has, and those of PCIDs, which are off.
        const bits = [0x8n, 0x18n, 0xfe7n, 1n << 60n, 1n << 52n, 1n << 62n];
        regs.rax = BigInt(TABLES) | random.pick(this.long ? bits : bits.slice(0, 2));
        return [0x0f, 0x22, 0xd8];
      },
      "wrmsr, rdmsr": () => {
        regs.rcx = BigInt(random.pick(MSRS));
        const value = this.#msrValue(Number(regs.rcx));
        regs.rax = BigInt.asUintN(32, value);
        // WRMSR does not look at the upper half; 0 would be made anything.
        regs.rdx = (value >> 32n) | (1n << 32n);
        if (regs.rax === 0n) regs.rax = 1n << 32n;
        return [0x0f, 0x30, 0x0f, 0x32];
      },
      "mov dr": () => {
        const register = random.pick([0, 1, 4, 5, 6, 7]);
        // The upper half only where KVM looks at it: its emulator does not for DR4 and DR5.
        const wide = this.bits === 64 && register !== 4 && register !== 5 && random.chance(0.2);
        regs.rax = wide ? random.bits64() : BigInt(random.next()) & ~0x2000ffn;
        return [0x0f, random.pick([0x21, 0x23]), 0xc0 | (register << 3)];
      },
      swapgs: () => [0x0f, 0x01, 0xf8],
      syscall: () => [0x0f, 0x05],
      sysret: () => {
        regs.rcx = BigInt(TARGETS);
        regs.r11 = BigInt(this.#returnFlags());
        return [0x0f, 0x07];
      },
      "sysenter/sysexit": () => [0x0f, random.pick([0x34, 0x35])],
      "rd/wrfsbase": () => {
        regs.rax = random.chance(0.7) ? BigInt(DATA) : NOT_CANONICAL | BigInt(random.next());
        return [0xf3, 0x0f, 0xae, 0xc0 | (random.below(4) << 3)];
      },
      invlpg: () => [0x0f, 0x01, ...this.#atData(7)],
      hlt: () => [HLT],
      ud2: () => [0x0f, 0x0b],
    };
    if (this.bits === 64) return common;
    return {
      ...common,
      "pop sreg": () => {
        this.#stack(4, [this.selector()]);
        return [random.pick([0x07, 0x17, 0x1f])];
      },
      "push sreg": () => [random.pick([0x06, 0x0e, 0x16, 0x1e])],
      "lds/les": (size) => {
        farPointer(size);
        return [random.pick([0xc4, 0xc5]), ...this.#atData(0)];
      },
      "jmp far": (size) => [0xea, ...this.#pointerBytes(size)],
      "call far": (size) => [0x9a, ...this.#pointerBytes(size)],
      into: () => [0xce],
      arpl: () => {
        selectorInAx();
        regs.rcx = BigInt(this.selector());
        return [0x63, 0xc8];
      },
    };
  }

  /** What a register takes, mostly. */
  #msrValue(index: number): bigint {
    const { random } = this;
    const efer = this.long ? 0xd01n : 0n;
    switch (index) {
      case Msr.EFER:
        return efer ^ random.pick([0n, 1n, 0x100n, 0x400n, 0x800n, 0x901n, 1n << 40n]);
      case Msr.PAT:
        return random.chance(0.7) ? 0x0007040600070406n : random.bits64() & 0x0707070707070707n;
      case Msr.SYSENTER_CS:
        return BigInt(random.below(0x10000));
      case Msr.SFMASK:
      case Msr.TSC_AUX:
        return BigInt(random.next());
      case Msr.STAR:
        return random.bits64();
      default:
        return random.chance(0.7) ? BigInt.asUintN(64, BigInt.asIntN(47, random.bits64())) : NOT_CANONICAL;
    }
  }

  #pointerBytes(size: number): number[] {
    const target = this.#target();
    const selector = this.selector();
    const bytes = [0, 8, 16, 24].slice(0, size).map((shift) => (target >>> shift) & 0xff);
    return [...bytes, selector & 0xff, selector >> 8];
  }

  #cr0(): bigint {
    switch (this.mode) {
      case "real":
        return 0x30n;
      case "protected":
      case "vm86":
        return 0x31n;
      default:
        return 0x80010031n;
    }
  }
  #cr4(): bigint {
    return this.long ? 0x620n | (1n << 16n) : 0x600n;
  }

  #state(): State {
    const { random, mode, cpl } = this;
    const regs: Record<string, bigint> = { ...REGS, ...this.regs };
    for (const name of Object.keys(REGS)) if (regs[name] === 0n) regs[name] = random.chance(0.5) ? 0n : random.bits64();
    regs.rsp = BigInt(STACK);
    regs.rip = BigInt(CODE);
    const nativeUser = this.cpl === 3 && mode !== "vm86";
    const iopl = nativeUser ? 0 : random.below(4);
    const nested = !nativeUser && random.chance(0.15) ? 0x4000 : 0;
    const flags = 2 | (random.next() & 0x8d5) | (iopl << 12) | nested | (random.chance(0.5) ? 0x200 : 0);
    regs.rflags = BigInt(flags | (mode === "vm86" ? 0x20000 : 0));
    const real = mode === "real" || mode === "vm86";
    const base = { base: 0n, present: 1, unusable: 0, avl: 0 };
    const realSegment = (type: number): Segment => ({
      ...base,
      ...{ limit: 0xffff, selector: 0, type: mode === "vm86" ? 3 : type, dpl: cpl, db: 0, s: 1, l: 0, g: 0 },
    });
    const flat = { ...base, limit: 0xffffffff, s: 1, g: 1, dpl: cpl };
    const data = (): Segment => ({ ...flat, selector: (DATA32 + cpl) * 8 + cpl, type: 3, db: 1, l: 0 });
    const entry = this.bits === 64 ? CODE64 : this.bits === 32 ? CODE32 : CODE16;
    const cs: Segment = {
      ...flat,
      ...(this.bits === 16 ? { limit: 0xffff, g: 0 } : {}),
      ...{ selector: (entry + cpl) * 8 + cpl, type: 11, db: this.bits === 32 ? 1 : 0, l: this.bits === 64 ? 1 : 0 },
    };
    const one = (): Segment => (real ? realSegment(3) : data());
    const system = (selector: number, at: number, limit: number, type: number): Segment => ({
      ...base,
      ...{ base: BigInt(at), limit, selector, type, dpl: 0, db: 0, s: 0, l: 0, g: 0 },
    });
    const sregs = {
      cs: real ? realSegment(11) : cs,
      ...{ ds: one(), es: one(), fs: one(), gs: one(), ss: one() },
      tr: system(TSS_ENTRY * 8, TSS, 0x7ff, this.options.tssType),
      ldt: system(LDT_ENTRY * 8, LDT, 0x7f, 2),
      gdt: { base: BigInt(GDT), limit: GDT_ENTRIES * 8 - 1 },
      idt: { base: mode === "real" ? 0n : BigInt(IDT), limit: mode === "real" ? 0x3ff : this.long ? 0xfff : 0x7ff },
      ...{ cr0: this.#cr0(), cr2: 0n, cr3: this.long ? BigInt(TABLES) : 0n, cr4: this.#cr4(), cr8: 0n },
      efer: this.long ? 0xd01n : 0n,
      apicBase: 0xfee00900n,
      interruptBitmap: [0n, 0n, 0n, 0n],
    };
    return { regs: regs as unknown as State["regs"], sregs };
  }
}

const REGS: Record<string, bigint> = Object.fromEntries(
  "rax rbx rcx rdx rsi rdi rsp rbp r8 r9 r10 r11 r12 r13 r14 r15 rip rflags".split(" ").map((name) => [name, 0n]),
);
