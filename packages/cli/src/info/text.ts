/** The report in words. */

import { CAPABILITY_GROUPS, WITH_VALUE } from "./capability-groups.ts";
import type { IsolationInfo } from "./isolation.ts";
import type { Feature, KernelInfo } from "./kernel.ts";
import type { PresentKvm } from "./kvm.ts";
import type { Section } from "./layout.ts";
import type { MemoryInfo } from "./memory.ts";
import type { Device } from "./network.ts";
import type { ProcessorInfo } from "./processor.ts";
import type { Report } from "./report.ts";

export function sections(report: Report): Section[] {
  const { kvm, software, accelerator, network, isolation, kernel } = report;
  return [
    {
      title: "Accelerators",
      rows: [
        ["auto", `${accelerator.auto}, because ${accelerator.reason}`],
        [
          "soft",
          `the software processor, model ${software.model}; ${software.ringZeroNs} ns an instruction of a simple loop`,
        ],
        ["kvm", kvm.present ? guestKernels(kvm) : kvm.reason],
      ],
    },
    ...(kvm.present ? [{ title: "KVM", rows: kvmRows(kvm) }] : []),
    ...(kvm.present ? [{ title: "Capabilities", rows: capabilityRows(kvm.capabilities) }] : []),
    { title: "Processor", rows: processorRows(report.processor) },
    { title: "Memory", rows: memoryRows(report.memory) },
    {
      title: "Network",
      rows: [
        ["tun", device(network.tun)],
        ["bridge", feature(network.bridge)],
        ["nftables", feature(network.nftables)],
        ["vhost-net", device(network.vhostNet)],
      ],
    },
    {
      title: "Isolation",
      rows: [
        ["SELinux", SELINUX[isolation.selinux]],
        ["cgroups", cgroups(isolation.cgroup)],
      ],
    },
    { title: "Kernel", rows: kernelRows(kernel) },
  ];
}

/** Every capability on a line of its own. */
export function allCapabilities(capabilities: Record<string, number>): string {
  const names = Object.keys(capabilities);
  const width = Math.max(...names.map((name) => name.length));
  return names.map((name) => `  KVM_CAP_${name.padEnd(width)}  ${capabilities[name]}`).join("\n");
}

type Rows = Section["rows"];

function kvmRows(kvm: PresentKvm): Rows {
  return [
    ["device", `${kvm.device}, API version ${kvm.apiVersion}${kvm.module === undefined ? "" : `, ${kvm.module}`}`],
    ["nested KVM", kvm.nested ? "yes: a guest can run KVM itself" : "no"],
    ["encryption", kvm.memoryEncryption.length > 0 ? kvm.memoryEncryption.join(", ") : "none"],
  ];
}

function guestKernels(kvm: PresentKvm): string {
  switch (kvm.guestKernels) {
    case "executed":
      return `executes guest kernels (${kvm.ringZeroNs} ns an instruction)`;
    case "interpreted":
      return `interprets guest kernels at about ${Math.round(kvm.ringZeroNs!)} ns an instruction`;
    case undefined:
      return `could not be measured: ${kvm.speedError}`;
  }
}

function capabilityRows(capabilities: Record<string, number>): Rows {
  return Object.entries(CAPABILITY_GROUPS).map(([group, names]) => {
    const present = names.filter((name) => capabilities[name]);
    const lacking = names.filter((name) => !capabilities[name]);
    const list = present.map((name) => (WITH_VALUE.has(name) ? `${name}\u00a0${capabilities[name]}` : name)).join(", ");
    return [group, lacking.length === 0 ? list : `${list}; lacks ${lacking.join(", ")}`.replace(/^; /, "")];
  });
}

function processorRows({ model, vendor, cores, virtualization, virtual }: ProcessorInfo): Rows {
  const hidden = virtual ? "not shown by the host above this virtual machine" : "none, or off in the firmware";
  return [
    ["model", `${model} (${vendor})`],
    ["cores", String(cores)],
    ["extension", virtualization === "none" ? hidden : virtualization],
  ];
}

function memoryRows({ totalBytes, availableBytes, hugePages, transparentHugePages, ksm }: MemoryInfo): Rows {
  const pools = hugePages.map(({ sizeBytes, total, free }) => `${total} of ${size(sizeBytes)} (${free} free)`);
  const sharing = ksm && `${ksm.pagesSharing} pages share ${ksm.pagesShared}`;
  return [
    ["total", `${size(totalBytes)}, ${size(availableBytes)} available`],
    ["huge pages", pools.length > 0 ? pools.join(", ") : "none"],
    ["transparent", transparentHugePages ?? "not in this kernel"],
    ["KSM", ksm === undefined ? "not in this kernel" : ksm.running ? `on: ${sharing}` : "off"],
  ];
}

function size(bytes: number): string {
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  const power = bytes > 0 ? Math.min(Math.floor(Math.log2(bytes) / 10), units.length - 1) : 0;
  return `${Number((bytes / 1024 ** power).toFixed(1))} ${units[power]}`;
}

function kernelRows({ release, userfaultfd, userfaultfdForAll, ioUring }: KernelInfo): Rows {
  const users = userfaultfdForAll ? "yes, for every user" : "yes, in full for root";
  return [
    ["Linux", release],
    ["userfaultfd", userfaultfd === "present" ? users : feature(userfaultfd)],
    ["io_uring", IO_URING[ioUring]],
  ];
}

const FEATURES: Record<Feature, string> = {
  present: "yes",
  loadable: "a module that can be loaded",
  absent: "not in this kernel",
  unknown: "unknown: this kernel's configuration cannot be read",
};

function feature(found: Feature): string {
  return FEATURES[found];
}

const IO_URING: Record<KernelInfo["ioUring"], string> = {
  ...FEATURES,
  restricted: "only for the group kernel.io_uring_group",
  disabled: "switched off (kernel.io_uring_disabled)",
};

function device({ path, usable, refusal, module, moduleName }: Device): string {
  if (usable) return `yes, ${path}`;
  if (refusal === "EACCES" || refusal === "EPERM") return `no permission for ${path}`;
  if (module === "loadable") return `not loaded: modprobe ${moduleName} brings ${path}`;
  if (module === "present") return `the kernel has it, but ${path} does not open (${refusal})`;
  return module === "unknown" ? `no ${path}` : "not in this kernel";
}

const SELINUX: Record<IsolationInfo["selinux"], string> = {
  absent: "not in this kernel",
  off: "in the kernel, switched off when it started",
  unknown: "not in this kernel, or switched off",
  "not mounted": "in the kernel, not mounted",
  permissive: "permissive",
  enforcing: "enforcing",
};

function cgroups({ layout, path, controllers, v1Controllers }: IsolationInfo["cgroup"]): string {
  const v2 = `${path}, ${controllers.length > 0 ? controllers.join(" ") : "without controllers"}`;
  switch (layout) {
    case "v2":
      return `version 2 at ${v2}`;
    case "hybrid":
      return `version 2 at ${v2}; version 1 has ${v1Controllers.join(" ")}`;
    case "v1":
      return `version 1 only: ${v1Controllers.join(" ")}`;
    case "none":
      return "not mounted";
  }
}
