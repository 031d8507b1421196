/** What the software processor is and can do. */

import { measureRingZero } from "@lodge/kvm";
import { DEFAULT_MODEL, openSoft } from "@lodge/softkvm";

export interface SoftwareInfo {
  model: string;
  /** Nanoseconds that an instruction of a guest kernel takes in a simple loop. */
  ringZeroNs: number;
}

export function software(): SoftwareInfo {
  using hypervisor = openSoft();
  return { model: DEFAULT_MODEL, ringZeroNs: Math.round(measureRingZero(hypervisor) * 10) / 10 };
}
