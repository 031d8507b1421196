/** RDMSR and WRMSR: the architectural registers (Intel SDM vol. 4, chapter 2). Others are asked from the hooks. */

import { Seg, State } from "../cpu/layout.ts";
import { writeEfer } from "./control-registers.ts";
import { MC_BANKS, MTRR_RANGES } from "./msr-state.ts";
import { isCanonical, type Processor } from "./processor.ts";
import { baseOf, setBase } from "./segment-registers.ts";

export const Msr = {
  TSC: 0x10,
  APIC_BASE: 0x1b,
  FEATURE_CONTROL: 0x3a,
  TSC_ADJUST: 0x3b,
  SPEC_CTRL: 0x48,
  PRED_CMD: 0x49,
  BIOS_SIGN_ID: 0x8b,
  MTRRCAP: 0xfe,
  SYSENTER_CS: 0x174,
  SYSENTER_ESP: 0x175,
  SYSENTER_EIP: 0x176,
  MCG_CAP: 0x179,
  MCG_STATUS: 0x17a,
  MCG_CTL: 0x17b,
  MISC_ENABLE: 0x1a0,
  DEBUGCTL: 0x1d9,
  MTRR_PHYS_BASE: 0x200,
  MTRR_FIX64K: 0x250,
  MTRR_FIX16K_80000: 0x258,
  MTRR_FIX16K_A0000: 0x259,
  MTRR_FIX4K: 0x268,
  PAT: 0x277,
  MTRR_DEF_TYPE: 0x2ff,
  MC0_CTL: 0x400,
  XSS: 0xda0,
  EFER: 0xc0000080,
  STAR: 0xc0000081,
  LSTAR: 0xc0000082,
  CSTAR: 0xc0000083,
  SFMASK: 0xc0000084,
  FS_BASE: 0xc0000100,
  GS_BASE: 0xc0000101,
  KERNEL_GS_BASE: 0xc0000102,
  TSC_AUX: 0xc0000103,
} as const;

/** What is read and written under one number; `write` returns false for #GP. Without `write` it is read-only. */
interface Register {
  read(cpu: Processor): bigint;
  write?(cpu: Processor, value: bigint): boolean;
}

type Field = {
  [K in keyof Processor["msrs"]]: Processor["msrs"][K] extends bigint ? K : never;
}[keyof Processor["msrs"]];

/** A register that only holds its value, if `allowed` finds that possible. */
function plain(field: Field, allowed: (value: bigint, cpu: Processor) => boolean = () => true): Register {
  return {
    read: (cpu) => cpu.msrs[field],
    write: (cpu, value) => {
      if (!allowed(value, cpu)) return false;
      cpu.msrs[field] = value;
      return true;
    },
  };
}
const upTo32 = (value: bigint): boolean => value >> 32n === 0n;
/** Memory types (11.3): uncacheable, write-combining, write-through, write-protected, write-back. */
const isMemoryType = (value: bigint): boolean => [0n, 1n, 4n, 5n, 6n].includes(value);
/** PAT has one more: 7, UC-. */
const isPatEntry = (value: bigint): boolean => value === 7n || isMemoryType(value);
const eachByte = (value: bigint, test: (byte: bigint) => boolean): boolean =>
  [0n, 8n, 16n, 24n, 32n, 40n, 48n, 56n].every((shift) => test((value >> shift) & 0xffn));

function segmentBase(segment: number): Register {
  return {
    read: (cpu) => baseOf(cpu.state, segment),
    write: (cpu, value) => {
      if (!isCanonical(value)) return false;
      setBase(cpu.state, segment, value);
      cpu.modeMayHaveChanged();
      return true;
    },
  };
}

/** Reads as a constant, and takes only that; or any value, with `ignoresWrites`. */
function constant(value: bigint, ignoresWrites = false): Register {
  return { read: () => value, write: (_, written) => ignoresWrites || written === value };
}

/** MTRRCAP: variable ranges, fixed ranges, write-combining. */
const MTRRCAP = 0x500n | BigInt(MTRR_RANGES);
/** MCG_CAP: banks, MCG_CTL, SER; as KVM's default. */
const MCG_CAP = BigInt(MC_BANKS) | 0x100n | 0x1000000n;

const REGISTERS = new Map<number, Register>([
  [
    Msr.TSC,
    {
      read: (cpu) => cpu.hooks.readTsc(),
      write: (cpu, value) => {
        cpu.hooks.writeTsc(value);
        return true;
      },
    },
  ],
  [
    Msr.TSC_ADJUST,
    {
      read: (cpu) => cpu.msrs.tscAdjust,
      write: (cpu, value) => {
        cpu.hooks.writeTsc(BigInt.asUintN(64, cpu.hooks.readTsc() + value - cpu.msrs.tscAdjust));
        cpu.msrs.tscAdjust = value;
        return true;
      },
    },
  ],
  [Msr.APIC_BASE, { read: (cpu) => cpu.hooks.readApicBase(), write: (cpu, value) => cpu.hooks.writeApicBase(value) }],
  // Locked, without VMX.
  [Msr.FEATURE_CONTROL, constant(1n)],
  [Msr.SPEC_CTRL, plain("specCtrl", (value) => (value & ~7n) === 0n)],
  [Msr.PRED_CMD, { read: () => 0n, write: (_, value) => (value & ~1n) === 0n }],
  [Msr.BIOS_SIGN_ID, constant(0x100000000n, true)],
  [Msr.MTRRCAP, { read: () => MTRRCAP }],
  [Msr.SYSENTER_CS, plain("sysenterCs", upTo32)],
  [Msr.SYSENTER_ESP, plain("sysenterEsp", isCanonical)],
  [Msr.SYSENTER_EIP, plain("sysenterEip", isCanonical)],
  [Msr.MCG_CAP, { read: () => MCG_CAP }],
  [Msr.MCG_STATUS, plain("mcgStatus")],
  [Msr.MCG_CTL, plain("mcgCtl", (value) => value === 0n || value === 2n ** 64n - 1n)],
  [Msr.MISC_ENABLE, plain("miscEnable")],
  [Msr.DEBUGCTL, plain("debugCtl", (value) => (value & ~3n) === 0n)],
  [Msr.PAT, plain("pat", (value) => eachByte(value, isPatEntry))],
  [Msr.MTRR_DEF_TYPE, plain("mtrrDefType", (value) => (value & ~0xcffn) === 0n && isMemoryType(value & 0xffn))],
  [Msr.XSS, plain("xss", (value) => value === 0n)],
  [Msr.EFER, { read: (cpu) => cpu.state.get64(State.efer), write: writeEfer }],
  [Msr.STAR, plain("star")],
  [Msr.LSTAR, plain("lstar", isCanonical)],
  [Msr.CSTAR, plain("cstar", isCanonical)],
  [Msr.SFMASK, plain("sfmask", upTo32)],
  [Msr.FS_BASE, segmentBase(Seg.FS)],
  [Msr.GS_BASE, segmentBase(Seg.GS)],
  [Msr.KERNEL_GS_BASE, plain("kernelGsBase", isCanonical)],
  [Msr.TSC_AUX, plain("tscAux", upTo32)],
]);

/** The fixed-range MTRRs (11.11.2.2) in the order of {@link MsrState.mtrrFixed}. */
const FIXED_MTRRS = [
  Msr.MTRR_FIX64K,
  Msr.MTRR_FIX16K_80000,
  Msr.MTRR_FIX16K_A0000,
  ...Array.from({ length: 8 }, (_, index) => Msr.MTRR_FIX4K + index),
];
for (const [index, number] of FIXED_MTRRS.entries()) {
  REGISTERS.set(number, {
    read: (cpu) => cpu.msrs.mtrrFixed[index]!,
    write: (cpu, value) => {
      if (!eachByte(value, isMemoryType)) return false;
      cpu.msrs.mtrrFixed[index] = value;
      return true;
    },
  });
}
for (let index = 0; index < MTRR_RANGES * 2; index++) {
  REGISTERS.set(Msr.MTRR_PHYS_BASE + index, {
    read: (cpu) => cpu.msrs.mtrrVariable[index]!,
    write: (cpu, value) => {
      if (value >> BigInt(cpu.features.physicalBits)) return false;
      // A base has a type and reserved bits up to 12, a mask only the valid bit 11 there.
      if (index & 1 ? value & 0x7ffn : value & 0xf00n || !isMemoryType(value & 0xffn)) return false;
      cpu.msrs.mtrrVariable[index] = value;
      return true;
    },
  });
}
for (let index = 0; index < MC_BANKS * 4; index++) {
  REGISTERS.set(Msr.MC0_CTL + index, {
    read: (cpu) => cpu.msrs.mcBanks[index]!,
    write: (cpu, value) => {
      // CTL takes all ones or zeros; STATUS can be cleared by the guest.
      if (index % 4 === 0 && value !== 0n && value !== 2n ** 64n - 1n) return false;
      if (index % 4 === 1 && value !== 0n) return false;
      cpu.msrs.mcBanks[index] = value;
      return true;
    },
  });
}

/** The numbers that microcode knows: for KVM_GET_MSR_INDEX_LIST. */
export const MSR_INDICES: readonly number[] = [...REGISTERS.keys()];

/** An MSR's value, or undefined: there is none, which is #GP for a guest. */
export function readMsr(cpu: Processor, index: number): bigint | undefined {
  const register = REGISTERS.get(index);
  return register ? BigInt.asUintN(64, register.read(cpu)) : cpu.hooks.readMsr(index);
}

/** Writes an MSR; false is #GP. */
export function writeMsr(cpu: Processor, index: number, value: bigint): boolean {
  const register = REGISTERS.get(index);
  return register ? (register.write?.(cpu, value) ?? false) : cpu.hooks.writeMsr(index, value);
}
