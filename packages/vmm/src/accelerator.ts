/** Which of the two implementations of KVM's interface a machine runs on. */

import { type Hypervisor, INTERPRETED_NS, KvmError, measureRingZero } from "@lodge/kvm";
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
  try {
    using hypervisor = openKvm();
    return wanted === "kvm" ? { kind: "kvm", reason: "asked for" } : automatic(ringZeroNs(hypervisor));
  } catch (error) {
    if (wanted === "auto" && error instanceof KvmError) return { kind: "soft", reason: error.message };
    throw error;
  }
}

function ringZeroNs(hypervisor: Hypervisor): number | undefined {
  try {
    return measureRingZero(hypervisor);
  } catch {
    // A host that cannot run such a loop has KVM all the same; what is wrong with it a machine will say.
    return undefined;
  }
}

/** What `auto` is where there is KVM, by the nanoseconds of a guest kernel's instruction; undefined: not to be measured. */
export function automatic(nanoseconds: number | undefined): Choice {
  if (nanoseconds === undefined) {
    return { kind: "kvm", reason: "it is there; how it runs guest kernels could not be measured" };
  }
  return nanoseconds > INTERPRETED_NS
    ? { kind: "soft", reason: "KVM interprets guest kernels here, which is slower" }
    : { kind: "kvm", reason: "KVM executes guest kernels here" };
}

export function parseAccelerator(text: string): Accelerator {
  const found = ACCELERATORS.find((name) => name === text);
  if (found !== undefined) return found;
  throw new VmmError("VMM_CONFIG", `accelerator ${JSON.stringify(text)}: it is ${ACCELERATORS.join(", ")}`);
}
