/** The accelerators that a test can use here, and why not the others. */

import type { HypervisorKind } from "@lodge/kvm";
import { openHypervisor } from "../src/accelerator.ts";

export async function accelerators(): Promise<{ kind: HypervisorKind; skip: string | false }[]> {
  try {
    (await openHypervisor("kvm"))[Symbol.dispose]();
    return [
      { kind: "soft", skip: false },
      { kind: "kvm", skip: false },
    ];
  } catch (error) {
    return [
      { kind: "soft", skip: false },
      { kind: "kvm", skip: error instanceof Error ? error.message : String(error) },
    ];
  }
}
