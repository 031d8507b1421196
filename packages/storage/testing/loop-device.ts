/** Block devices of the host for tests: loop devices, which hold something else already. */

import { execFileSync, spawnSync } from "node:child_process";
import { writeFileSync } from "node:fs";
import { join } from "node:path";

/** Why a test that needs one is skipped. */
export const noLoopDevice =
  process.getuid?.() === 0 && spawnSync("losetup", ["--find"]).status === 0
    ? false
    : "needs root and a loop device of the kernel";

/** A device of this size, full of 0xdd; it is gone with its scope. */
export function loopDevice(dir: string, name: string, sizeBytes: number): Disposable & { path: string } {
  const file = join(dir, name);
  writeFileSync(file, Buffer.alloc(sizeBytes, 0xdd));
  const path = execFileSync("losetup", ["--find", "--show", file], { encoding: "utf8" }).trim();
  return { path, [Symbol.dispose]: () => void execFileSync("losetup", ["--detach", path]) };
}
