/** Which of the two implementations of KVM's interface `--accel auto` takes on this host. */

import { automatic } from "@lodge/vmm";
import type { KvmInfo } from "./kvm.ts";

export interface AcceleratorInfo {
  auto: "kvm" | "soft";
  /** What there is to choose from. The software processor runs everywhere. */
  available: ("kvm" | "soft")[];
  reason: string;
}

export function accelerator(kvm: KvmInfo): AcceleratorInfo {
  if (!kvm.present) return { auto: "soft", available: ["soft"], reason: "no KVM can be used here" };
  const { kind, reason } = automatic(kvm.ringZeroNs);
  return { auto: kind, available: ["kvm", "soft"], reason };
}
