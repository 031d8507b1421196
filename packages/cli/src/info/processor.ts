/** The host's processors, from /proc/cpuinfo. */

import { type HostFiles, text } from "./host-files.ts";

export interface ProcessorInfo {
  model: string;
  vendor: string;
  /** Logical processors that are online. */
  cores: number;
  /** What the processor has for virtualization: vmx, svm, or neither (none, or hidden by a host above). */
  virtualization: "vmx" | "svm" | "none";
  /** This host is itself a virtual machine. */
  virtual: boolean;
}

export function processor(files: HostFiles): ProcessorInfo {
  const cpuinfo = text(files, "/proc/cpuinfo") ?? "";
  const field = (name: string) => new RegExp(`^${name}\\s*: (.*)$`, "m").exec(cpuinfo)?.[1]?.trim();
  const flags = new Set(field("flags")?.split(" "));
  return {
    model: field("model name") ?? "unknown",
    vendor: field("vendor_id") ?? "unknown",
    cores: cpuinfo.match(/^processor\s*:/gm)?.length ?? 0,
    virtualization: flags.has("vmx") ? "vmx" : flags.has("svm") ? "svm" : "none",
    virtual: flags.has("hypervisor"),
  };
}
