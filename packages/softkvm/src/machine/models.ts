/** Processor models: the CPUID leaves that the software processor can give. They say exactly what works. */

import { CPUID_SIGNIFICANT_INDEX, type CpuidEntry } from "@lodge/kvm";
import { DEFAULT_TSC_KHZ } from "./clock.ts";

/** The name of the model that a machine has unless told otherwise. */
export const DEFAULT_MODEL = "x86-64-v2";

/** Bits by their numbers. */
const bits = (...numbers: number[]): number => numbers.reduce((word, bit) => word | (1 << bit), 0) >>> 0;

/** Four ASCII characters as CPUID gives them. */
const text = (characters: string): number =>
  Array.from(characters).reduce((word, char, index) => (word | (char.charCodeAt(0) << (index * 8))) >>> 0, 0);

function leaf(number: number, eax = 0, ebx = 0, ecx = 0, edx = 0): CpuidEntry {
  return { function: number, index: 0, flags: 0, eax, ebx, ecx, edx };
}
function subleaf(number: number, index: number, eax = 0, ebx = 0, ecx = 0, edx = 0): CpuidEntry {
  return { function: number, index, flags: CPUID_SIGNIFICANT_INDEX, eax, ebx, ecx, edx };
}

function brandLeaf(model: string, number: number): CpuidEntry {
  const part = `Lodge ${model} software processor`.padEnd(48, "\0").slice((number - 0x80000002) * 16);
  return leaf(
    number,
    text(part.slice(0, 4)),
    text(part.slice(4, 8)),
    text(part.slice(8, 12)),
    text(part.slice(12, 16)),
  );
}

/** Leaf 1, EDX: fpu de pse tsc msr pae mce cx8 apic sep mtrr pge mca cmov pat pse36 clflush mmx fxsr sse sse2. */
const BASIC_EDX = bits(0, 2, 3, 4, 5, 6, 7, 8, 9, 11, 12, 13, 14, 15, 16, 17, 19, 23, 24, 25, 26);
/** Leaf 1, ECX: sse3 pclmul ssse3 cx16 sse4_1 sse4_2 x2apic movbe popcnt tsc_deadline aes xsave rdrand hypervisor. */
const BASIC_ECX = bits(0, 1, 9, 13, 19, 20, 21, 22, 23, 24, 25, 26, 30, 31);
/**
 * Leaf 7, EBX: fsgsbase smep rdseed smap sha, and what x87 does: it keeps its data pointer on exceptions only (6), and no
 * selectors of pointers (13). ECX: umip rdpid.
 */
const STRUCTURED_EBX = bits(0, 6, 7, 13, 18, 20, 29);
const STRUCTURED_ECX = bits(2, 22);
/** Leaf 0x80000001, EDX: syscall nx pdpe1gb rdtscp lm. ECX: lahf_lm. */
const EXTENDED_EDX = bits(11, 20, 26, 27, 29);
const EXTENDED_ECX = bits(0);

/**
 * Family 6, model 28: to Linux an in-order processor without speculation, which is what this is: it needs none of the
 * mitigations that would only slow it down.
 */
const SIGNATURE = 0x000106ca;

/** KVM's own leaf: clocksource, nop_io_delay, clocksource2, and clocksource_stable. */
const KVM_FEATURES = bits(0, 1, 3, 24);

/** What models differ in: words of their leaves, and the components of XCR0 with the bytes that XSAVE takes for them. */
interface Model {
  readonly basicEcx: number;
  readonly structuredEbx: number;
  readonly extendedEcx: number;
  readonly xcr0: number;
  readonly xsaveBytes: number;
}

/** The default model. Both are by the levels of the System V psABI for AMD64. */
export function x8664v2(): CpuidEntry[] {
  return leaves("x86-64-v2", {
    basicEcx: BASIC_ECX,
    structuredEbx: STRUCTURED_EBX,
    extendedEcx: EXTENDED_ECX,
    // x87 and SSE: 512 bytes and the header.
    xcr0: 3,
    xsaveBytes: 576,
  });
}

export function x8664v3(): CpuidEntry[] {
  return leaves("x86-64-v3", {
    // fma avx f16c; movbe and osxsave are in the other model, too.
    basicEcx: (BASIC_ECX | bits(12, 28, 29)) >>> 0,
    // bmi1 avx2 bmi2
    structuredEbx: (STRUCTURED_EBX | bits(3, 5, 8)) >>> 0,
    // lzcnt
    extendedEcx: EXTENDED_ECX | bits(5),
    xcr0: 7,
    xsaveBytes: 832,
  });
}

function leaves(name: string, model: Model): CpuidEntry[] {
  const { basicEcx, structuredEbx, extendedEcx, xcr0, xsaveBytes } = model;
  return [
    leaf(0, 0x16, text("Genu"), text("ntel"), text("ineI")),
    // CLFLUSH works on 64 bytes; the APIC id is each vCPU's.
    leaf(1, SIGNATURE, 8 << 8, basicEcx, BASIC_EDX),
    leaf(2, 1),
    subleaf(4, 0),
    subleaf(7, 0, 0, structuredEbx, STRUCTURED_ECX, 0),
    subleaf(0xb, 0),
    // EBX goes by what XCR0 has at the time.
    subleaf(0xd, 0, xcr0, xsaveBytes, xsaveBytes, 0),
    subleaf(0xd, 1),
    // Where the upper halves of ymm registers are.
    ...(xcr0 & 4 ? [subleaf(0xd, 2, 256, 576)] : []),
    leaf(0x16),
    leaf(0x40000000, 0x40000010, text("KVMK"), text("VMKV"), text("M\0\0\0")),
    leaf(0x40000001, KVM_FEATURES),
    // TSC and APIC bus frequency in kHz.
    leaf(0x40000010, DEFAULT_TSC_KHZ, 1_000_000),
    leaf(0x80000000, 0x80000008),
    leaf(0x80000001, 0, 0, extendedEcx, EXTENDED_EDX),
    brandLeaf(name, 0x80000002),
    brandLeaf(name, 0x80000003),
    brandLeaf(name, 0x80000004),
    leaf(0x80000006, 0, 0, 0x01006040),
    leaf(0x80000007, 0, 0, 0, bits(8)),
    leaf(0x80000008, 40 | (48 << 8)),
  ];
}
