/** Which of the two implementations of KVM's interface `--accel auto` takes on this host. */

import type { KvmInfo } from "./kvm.ts";

export interface AcceleratorInfo {
  auto: "kvm" | "soft";
  /** What there is to choose from. The software processor runs everywhere. */
  available: ("kvm" | "soft")[];
  reason: string;
}

export function accelerator(kvm: KvmInfo): AcceleratorInfo {
  if (!kvm.present) return { auto: "soft", available: ["soft"], reason: "no KVM can be used here" };
  const available: AcceleratorInfo["available"] = ["kvm", "soft"];
  switch (kvm.guestKernels) {
    case "executed":
      return { auto: "kvm", available, reason: "KVM executes guest kernels here" };
    case "interpreted":
      return { auto: "soft", available, reason: "KVM interprets guest kernels here, which is slower" };
    case undefined:
      return { auto: "kvm", available, reason: "it is there; how it runs guest kernels could not be measured" };
  }
}
