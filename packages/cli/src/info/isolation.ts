/** What can confine a machine's process: SELinux and control groups. */

import { type HostFiles, text } from "./host-files.ts";
import type { Kernel } from "./kernel.ts";
import { mounts } from "./mounts.ts";

export interface IsolationInfo {
  /** off: the kernel has it and was started without it. */
  selinux: "absent" | "off" | "unknown" | "not mounted" | "permissive" | "enforcing";
  cgroup: {
    /** v2: the unified hierarchy alone. hybrid: v1's hierarchies hold controllers, v2 is mounted beside them. */
    layout: "v2" | "hybrid" | "v1" | "none";
    /** Where version 2 is mounted. */
    path: string | undefined;
    /** The controllers that version 2 has. */
    controllers: string[];
    /** The controllers that version 1's hierarchies have. */
    v1Controllers: string[];
  };
}

export function isolation(files: HostFiles, kernel: Kernel): IsolationInfo {
  return { selinux: selinux(files, kernel), cgroup: cgroup(files) };
}

function selinux(files: HostFiles, kernel: Kernel): IsolationInfo["selinux"] {
  const mount = mounts(files).find(({ type }) => type === "selinuxfs");
  if (mount !== undefined) return text(files, `${mount.path}/enforce`) === "1" ? "enforcing" : "permissive";
  if (/\bselinuxfs$/m.test(text(files, "/proc/filesystems") ?? "")) return "not mounted";
  const built = kernel.builtIn("SECURITY_SELINUX");
  return built === undefined ? "unknown" : built ? "off" : "absent";
}

function cgroup(files: HostFiles): IsolationInfo["cgroup"] {
  const all = mounts(files);
  const path = all.find(({ type }) => type === "cgroup2")?.path;
  const v1 = all.filter(({ type }) => type === "cgroup");
  const controllers = path && text(files, `${path}/cgroup.controllers`);
  // Of a mount's options, the controllers are those that /proc/cgroups names.
  const known = new Set((text(files, "/proc/cgroups") ?? "").split("\n").map((line) => line.split("\t")[0]!));
  return {
    layout: path === undefined ? (v1.length > 0 ? "v1" : "none") : v1.length > 0 ? "hybrid" : "v2",
    path,
    controllers: controllers ? controllers.split(" ") : [],
    v1Controllers: [...new Set(v1.flatMap(({ options }) => options.filter((option) => known.has(option))))],
  };
}
