/** The programs that the lab runs, and what to do about those that are missing. */

import { spawnSync } from "node:child_process";
import { findProgram } from "../packages/vmm/src/images/programs.ts";
import { LabError } from "./errors.ts";

const packages = {
  "qemu-system-x86_64": "qemu-system-x86",
  busybox: "busybox-static",
  "apt-get": "apt",
  "apt-cache": "apt",
  "dpkg-deb": "dpkg",
  tar: "tar",
  xz: "xz-utils",
} as const;

export type Tool = keyof typeof packages;
export const toolsToRun: readonly Tool[] = ["qemu-system-x86_64", "busybox"];
export const toolsToBuild: readonly Tool[] = ["apt-get", "apt-cache", "dpkg-deb", "tar", "xz"];

/** One line that names every missing tool, or undefined. */
export function missingTools(tools: readonly Tool[]): string | undefined {
  const missing = tools.filter((tool) => findProgram(tool) === undefined);
  if (missing.length === 0) return undefined;
  const wanted = [...new Set(missing.map((tool) => packages[tool]))];
  return `the lab needs ${missing.join(", ")}: apt-get install ${wanted.join(" ")}`;
}

const largestOutputBytes = 512 * 1024 * 1024;

/** Runs a tool to its end and returns its stdout. */
export function runTool(tool: Tool, args: readonly string[], options: { cwd?: string; input?: Buffer } = {}): Buffer {
  const path = findProgram(tool);
  if (path === undefined) throw new LabError("UNAVAILABLE", missingTools([tool]) ?? `${tool} is missing`);
  const child = spawnSync(path, args, {
    ...options,
    maxBuffer: largestOutputBytes,
    env: { ...process.env, LC_ALL: "C", DEBIAN_FRONTEND: "noninteractive" },
  });
  if (child.error !== undefined || child.status !== 0) {
    const said = child.stderr?.toString().trim().split("\n").slice(-5).join("\n");
    throw new LabError(
      "BUILD",
      `${tool} ${args[0] ?? ""} failed (${child.error?.message ?? child.signal ?? `status ${child.status}`}): ${said}`,
    );
  }
  return child.stdout;
}
