/** Which of the two implementations of KVM's interface a machine runs on. */

import { INTERPRETED_NS, KvmError, measureRingZero } from "@lodge/kvm";
import { openKvm } from "@lodge/kvm/linux";
import { VmmError } from "./errors.ts";

export const ACCELERATORS = ["auto", "kvm", "soft"] as const;
export type Accelerator = (typeof ACCELERATORS)[number];

export interface Choice {
  readonly kind: "kvm" | "soft";
  /** Why, as half a sentence. */
  readonly reason: string;
}

/**
 * Makes `auto` one of the two. A `/dev/kvm` inside a virtual machine may interpret guest kernels, several hundred times slower
 * than the software processor: a loop in ring 0 tells (a few milliseconds).
 */
export function chooseAccelerator(wanted: Accelerator): Choice {
  if (wanted === "soft") return { kind: "soft", reason: "asked for" };
  let nanoseconds: number;
  try {
    using hypervisor = openKvm();
    if (wanted === "kvm") return { kind: "kvm", reason: "asked for" };
    nanoseconds = measureRingZero(hypervisor);
  } catch (error) {
    if (wanted === "auto" && error instanceof KvmError) return { kind: "soft", reason: error.message };
    throw error;
  }
  if (nanoseconds > INTERPRETED_NS) {
    return { kind: "soft", reason: "KVM interprets guest kernels here, which is slower" };
  }
  return { kind: "kvm", reason: "KVM executes guest kernels here" };
}

export function parseAccelerator(text: string): Accelerator {
  const found = ACCELERATORS.find((name) => name === text);
  if (found !== undefined) return found;
  throw new VmmError("VMM_CONFIG", `accelerator ${JSON.stringify(text)}: it is ${ACCELERATORS.join(", ")}`);
}
