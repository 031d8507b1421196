/** A vCPU's CPUID leaves: what was set, as the guest's instruction and the processor's features read it. */

import { CPUID_SIGNIFICANT_INDEX, type CpuidEntry, KvmError } from "@lodge/kvm";
import type { ApicFeatures } from "../interrupts/index.ts";
import type { CpuidResult } from "../system/features.ts";

/** KVM_MAX_CPUID_ENTRIES. */
const MAX_ENTRIES = 256;

const NOTHING: CpuidResult = { eax: 0, ebx: 0, ecx: 0, edx: 0 };

export class CpuidTable {
  entries: readonly CpuidEntry[] = [];

  set(entries: readonly CpuidEntry[]): void {
    if (entries.length > MAX_ENTRIES) {
      throw new KvmError("KVM_REQUEST_FAILED", `CPUID of ${entries.length} leaves: at most ${MAX_ENTRIES}`);
    }
    this.entries = entries.map((entry) => ({ ...entry }));
  }

  equals(entries: readonly CpuidEntry[]): boolean {
    const text = (list: readonly CpuidEntry[]) =>
      list.map(({ function: leaf, index, flags, eax, ebx, ecx, edx }) =>
        [leaf, index, flags, eax, ebx, ecx, edx].join(),
      );
    return text(entries).join(";") === text(this.entries).join(";");
  }

  /** What the instruction gives, without what depends on the processor's state. A leaf out of range is zeros. */
  get(leaf: number, subleaf: number): CpuidResult {
    return this.#find(leaf, subleaf) ?? NOTHING;
  }

  apicFeatures(): ApicFeatures {
    const basic = this.get(1, 0);
    return {
      x2apic: ((basic.ecx >>> 21) & 1) !== 0,
      tscDeadline: ((basic.ecx >>> 24) & 1) !== 0,
      physicalAddressBits: this.get(0x80000008, 0).eax & 0xff || 36,
    };
  }

  #find(leaf: number, subleaf: number): CpuidEntry | undefined {
    return this.entries.find(
      (entry) =>
        entry.function === leaf >>> 0 &&
        ((entry.flags & CPUID_SIGNIFICANT_INDEX) === 0 || entry.index === subleaf >>> 0),
    );
  }
}
