/** Everything that `lodge info` finds; the shape of its JSON. */

import { type AcceleratorInfo, accelerator } from "./accelerator.ts";
import type { HostFiles } from "./host-files.ts";
import { type IsolationInfo, isolation } from "./isolation.ts";
import { Kernel, type KernelInfo } from "./kernel.ts";
import { type KvmInfo, kvm } from "./kvm.ts";
import { type MemoryInfo, memory } from "./memory.ts";
import { type NetworkInfo, network } from "./network.ts";
import { type ProcessorInfo, processor } from "./processor.ts";
import { type SoftwareInfo, software } from "./software.ts";

export interface Report {
  kvm: KvmInfo;
  software: SoftwareInfo;
  accelerator: AcceleratorInfo;
  processor: ProcessorInfo;
  memory: MemoryInfo;
  network: NetworkInfo;
  isolation: IsolationInfo;
  kernel: KernelInfo;
}

/** `device`: where KVM is looked for. */
export function gather(files: HostFiles, device?: string): Report {
  const kernel = new Kernel(files);
  const kvmInfo = kvm(files, device);
  return {
    kvm: kvmInfo,
    software: software(),
    accelerator: accelerator(kvmInfo),
    processor: processor(files),
    memory: memory(files),
    network: network(files, kernel),
    isolation: isolation(files, kernel),
    kernel: kernel.info(),
  };
}
