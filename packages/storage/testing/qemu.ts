/** QEMU's tools as judges of our images. */

import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";

const there = spawnSync("qemu-img", ["--version"]).status === 0;
/** Why a test that needs them is skipped. */
export const qemuMissing = there ? false : "qemu-img (Debian's qemu-utils) is not installed";

export function qemuImg(...args: string[]): string {
  const { status, stdout, stderr } = spawnSync("qemu-img", args, { encoding: "utf8", maxBuffer: 64 << 20 });
  assert.equal(status, 0, `qemu-img ${args.join(" ")}: ${stdout}${stderr}`);
  return stdout;
}

export function qemuIo(path: string, ...commands: string[]): string {
  const { status, stdout, stderr } = spawnSync("qemu-io", [path, ...commands.flatMap((text) => ["-c", text])], {
    encoding: "utf8",
    maxBuffer: 64 << 20,
  });
  assert.ok(status === 0 && !/failed|error/i.test(stdout + stderr), `qemu-io ${commands}: ${stdout}${stderr}`);
  return stdout;
}

/** `qemu-img check` finds nothing at all; with `leaks`, nothing but lost clusters. */
export function qemuCheck(path: string, leaks = false): void {
  const { status, stdout, stderr } = spawnSync("qemu-img", ["check", "-f", "qcow2", path], { encoding: "utf8" });
  assert.ok(status === 0 || (leaks && status === 3), `qemu-img check ${path} (status ${status}): ${stdout}${stderr}`);
}
