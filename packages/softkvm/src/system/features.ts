/** What a processor model can do, as far as system registers and instructions ask, read from its CPUID leaves. */

import { Cr0, Cr4, Efer } from "@lodge/kvm";

export interface CpuidResult {
  eax: number;
  ebx: number;
  ecx: number;
  edx: number;
}

export type Cpuid = (leaf: number, subleaf: number) => CpuidResult;

/** CR4 bits beside those that @lodge/kvm names (Intel SDM vol. 3, 2.5). */
export const Cr4More = {
  TSD: 1n << 2n,
  DE: 1n << 3n,
  MCE: 1n << 6n,
  PCE: 1n << 8n,
} as const;

/** CR0 bits beside those that @lodge/kvm names. */
export const Cr0More = { EM: 1n << 2n, TS: 1n << 3n, NW: 1n << 29n, CD: 1n << 30n } as const;

/** Every bit of CR0 that there is; bits 32 to 63 must be 0, the others are ignored. */
export const CR0_BITS =
  Cr0.PE | Cr0.MP | Cr0More.EM | Cr0More.TS | Cr0.ET | Cr0.NE | Cr0.WP | Cr0.AM | Cr0More.NW | Cr0More.CD | Cr0.PG;

/** XCR0 (13.3): x87, SSE, AVX. */
export const Xcr0 = { X87: 1n, SSE: 2n, AVX: 4n } as const;

export interface Features {
  /** CR4 bits that may be set. VME and PVI (virtual-8086 mode extensions) are not offered, whatever CPUID says. */
  readonly cr4: bigint;
  /** EFER bits that may be set; LMA is the processor's. */
  readonly efer: bigint;
  /** XCR0 bits that may be set. */
  readonly xcr0: bigint;
  readonly physicalBits: number;
  readonly gigabytePages: boolean;
  readonly longMode: boolean;
  readonly pcid: boolean;
  readonly rdtscp: boolean;
  readonly syscall: boolean;
  /** SYSCALL and SYSRET exist outside 64-bit mode: AMD only. */
  readonly syscallLegacy: boolean;
  readonly sysenter: boolean;
  readonly mwait: boolean;
  readonly x2apic: boolean;
  readonly xsaves: boolean;
  readonly xsavec: boolean;
}

const bit = (value: number, index: number): boolean => ((value >>> index) & 1) !== 0;
const when = (condition: boolean, bits: bigint): bigint => (condition ? bits : 0n);

export function readFeatures(cpuid: Cpuid): Features {
  // A hook may return one object again and again.
  const leaf = (number: number, subleaf = 0): CpuidResult => ({ ...cpuid(number, subleaf) });
  const highest = leaf(0);
  const basic = leaf(1);
  const structured = highest.eax >= 7 ? leaf(7) : NONE;
  const xsave = highest.eax >= 0xd ? leaf(0xd) : NONE;
  const xsaveMore = highest.eax >= 0xd ? leaf(0xd, 1) : NONE;
  const highestExtended = leaf(0x80000000).eax >>> 0;
  const extended = highestExtended >= 0x80000001 ? leaf(0x80000001) : NONE;
  const addresses = highestExtended >= 0x80000008 ? leaf(0x80000008) : NONE;
  const longMode = bit(extended.edx, 29);
  const amd = highest.ebx === VENDOR_AMD;
  return {
    cr4:
      when(bit(basic.edx, 4), Cr4More.TSD) |
      when(bit(basic.edx, 2), Cr4More.DE) |
      when(bit(basic.edx, 3), Cr4.PSE) |
      when(bit(basic.edx, 6), Cr4.PAE) |
      when(bit(basic.edx, 7), Cr4More.MCE) |
      when(bit(basic.edx, 13), Cr4.PGE) |
      Cr4More.PCE |
      when(bit(basic.edx, 24), Cr4.OSFXSR) |
      when(bit(basic.edx, 25), Cr4.OSXMMEXCPT) |
      when(bit(structured.ecx, 2), Cr4.UMIP) |
      when(bit(structured.ebx, 0), Cr4.FSGSBASE) |
      when(bit(basic.ecx, 17), Cr4.PCIDE) |
      when(bit(basic.ecx, 26), Cr4.OSXSAVE) |
      when(bit(structured.ebx, 7), Cr4.SMEP) |
      when(bit(structured.ebx, 20), Cr4.SMAP),
    efer: when(bit(extended.edx, 11), Efer.SCE) | when(longMode, Efer.LME) | when(bit(extended.edx, 20), Efer.NXE),
    xcr0: (BigInt(xsave.eax >>> 0) | (BigInt(xsave.edx >>> 0) << 32n)) & (Xcr0.X87 | Xcr0.SSE | Xcr0.AVX),
    physicalBits: addresses.eax & 0xff || (bit(basic.edx, 17) || bit(basic.edx, 6) ? 36 : 32),
    gigabytePages: bit(extended.edx, 26),
    longMode,
    pcid: bit(basic.ecx, 17),
    rdtscp: bit(extended.edx, 27),
    syscall: bit(extended.edx, 11),
    syscallLegacy: amd,
    sysenter: bit(basic.edx, 11),
    mwait: bit(basic.ecx, 3),
    x2apic: bit(basic.ecx, 21),
    xsavec: bit(xsaveMore.eax, 1),
    xsaves: bit(xsaveMore.eax, 3),
  };
}

const NONE: CpuidResult = { eax: 0, ebx: 0, ecx: 0, edx: 0 };
/** "Auth" of "AuthenticAMD". */
const VENDOR_AMD = 0x68747541;
