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

const BRAND = "Lodge x86-64-v2 software processor";

function brandLeaf(number: number): CpuidEntry {
  const part = BRAND.padEnd(48, "\0").slice((number - 0x80000002) * 16);
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

/** The default model. */
export function x8664v2(): CpuidEntry[] {
  return [
    leaf(0, 0x16, text("Genu"), text("ntel"), text("ineI")),
    // CLFLUSH works on 64 bytes; the APIC id is each vCPU's.
    leaf(1, SIGNATURE, 8 << 8, BASIC_ECX, BASIC_EDX),
    leaf(2, 1),
    subleaf(4, 0),
    subleaf(7, 0, 0, STRUCTURED_EBX, STRUCTURED_ECX, 0),
    subleaf(0xb, 0),
    // x87 and SSE: 512 bytes and the header.
    subleaf(0xd, 0, 3, 576, 576, 0),
    subleaf(0xd, 1),
    leaf(0x16),
    leaf(0x40000000, 0x40000010, text("KVMK"), text("VMKV"), text("M\0\0\0")),
    leaf(0x40000001, KVM_FEATURES),
    // TSC and APIC bus frequency in kHz.
    leaf(0x40000010, DEFAULT_TSC_KHZ, 1_000_000),
    leaf(0x80000000, 0x80000008),
    leaf(0x80000001, 0, 0, EXTENDED_ECX, EXTENDED_EDX),
    brandLeaf(0x80000002),
    brandLeaf(0x80000003),
    brandLeaf(0x80000004),
    leaf(0x80000006, 0, 0, 0x01006040),
    leaf(0x80000007, 0, 0, 0, bits(8)),
    leaf(0x80000008, 40 | (48 << 8)),
  ];
}
