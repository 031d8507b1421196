/** What differs between the CPUID leaves of a machine's vCPUs: who each is, and how they are arranged. */

import { CPUID_SIGNIFICANT_INDEX, type CpuidEntry } from "@lodge/kvm";

export interface Topology {
  readonly sockets: number;
  readonly cores: number;
  readonly threads: number;
}

/** How many bits number `count` things. */
const bitsFor = (count: number) => Math.ceil(Math.log2(count));

/**
 * The APIC id of the `index`th vCPU. Its bits number socket, core and thread (Intel SDM vol. 3, 9.9.3), so where counts
 * are no powers of two there are gaps.
 */
export function apicId(index: number, { cores, threads }: Topology): number {
  const thread = index % threads;
  const core = Math.floor(index / threads) % cores;
  const socket = Math.floor(index / threads / cores);
  return (((socket << bitsFor(cores)) | core) << bitsFor(threads)) | thread;
}

/** The leaves of the vCPU with an APIC id, from those that all share. */
export function cpuidOf(shared: readonly CpuidEntry[], id: number, topology: Topology): CpuidEntry[] {
  const { cores, threads } = topology;
  const perSocket = 2 ** (bitsFor(cores) + bitsFor(threads));
  const entries = shared.filter(({ function: leaf }) => leaf !== 0xb && leaf !== 0x1f);
  const own = entries.map((entry): CpuidEntry => {
    switch (entry.function) {
      case 1:
        return {
          ...entry,
          ebx: ((entry.ebx & 0xff00) | (Math.min(255, perSocket) << 16) | (id << 24)) >>> 0,
          // HTT: the count is valid, and above 1.
          edx: perSocket > 1 ? (entry.edx | HTT) >>> 0 : (entry.edx & ~HTT) >>> 0,
        };
      case 4:
        // Bits 31 to 26: cores of the package; 25 to 14: who shares this cache, which is the core's threads.
        if ((entry.eax & 0x1f) === 0) return entry;
        return {
          ...entry,
          eax: ((entry.eax & 0x3fff) | ((threads - 1) << 14) | ((2 ** bitsFor(cores) - 1) << 26)) >>> 0,
        };
      default:
        return entry;
    }
  });
  if (!shared.some(({ function: leaf }) => leaf === 0xb)) return own;
  return [...own, ...topologyLeaves(0xb, id, topology)];
}

const HTT = 1 << 28;

/** Types of a level in leaf 0xb. */
const Level = { NONE: 0, THREAD: 1, CORE: 2 } as const;

function topologyLeaves(leaf: number, id: number, { cores, threads }: Topology): CpuidEntry[] {
  const level = (index: number, type: number, shift: number, count: number): CpuidEntry => ({
    function: leaf,
    index,
    flags: CPUID_SIGNIFICANT_INDEX,
    eax: shift,
    ebx: count,
    ecx: index | (type << 8),
    edx: id,
  });
  return [
    level(0, Level.THREAD, bitsFor(threads), threads),
    level(1, Level.CORE, bitsFor(threads) + bitsFor(cores), threads * cores),
    level(2, Level.NONE, 0, 0),
  ];
}

/** How many bits guest physical addresses have. */
export function physicalAddressBits(entries: readonly CpuidEntry[]): number {
  return (entries.find(({ function: leaf }) => leaf === 0x80000008)?.eax ?? 36) & 0xff;
}
