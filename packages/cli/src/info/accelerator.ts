/** Which of the two implementations of KVM's interface `--accel auto` takes on this host. */

import type { KvmInfo } from "./kvm.ts";

export interface AcceleratorInfo {
  auto: "kvm" | "software";
  /** What is there to be chosen: the software processor is not built yet. */
  available: "kvm"[];
  reason: string;
}

export function accelerator(kvm: KvmInfo): AcceleratorInfo {
  if (!kvm.present) {
    return {
      auto: "software",
      available: [],
      reason: `no KVM can be used; ${NOT_YET}, so for now no machine runs here`,
    };
  }
  const available: AcceleratorInfo["available"] = ["kvm"];
  switch (kvm.guestKernels) {
    case "executed":
      return { auto: "kvm", available, reason: "KVM executes guest kernels here" };
    case "interpreted":
      return { auto: "software", available, reason: `KVM interprets guest kernels here; ${NOT_YET}, so for now kvm` };
    case undefined:
      return { auto: "kvm", available, reason: "it is there; how it runs guest kernels could not be measured" };
  }
}

const NOT_YET = "that is not built yet";
