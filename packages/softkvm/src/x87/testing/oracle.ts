/** Cases on this machine's processor. */

import { execFileSync, spawnSync } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { notIntel } from "../../../testing/vendor.ts";
import { RECORD } from "./record.ts";

/** Why the processor cannot be asked here, or false. For a test's `skip`. */
export function noProcessor(): string | false {
  if (process.platform !== "linux" || process.arch !== "x64") return "needs an x86-64 Linux";
  if (spawnSync("gcc", ["--version"]).status !== 0) return "gcc is not installed";
  // What is remembered of the last instruction, and the last bits of transcendental functions, are the vendor's.
  return notIntel;
}

export class Oracle {
  readonly #directory = mkdtempSync(join(tmpdir(), "lodge-x87-"));
  readonly #program = join(this.#directory, "processor");

  constructor() {
    const source = fileURLToPath(new URL("processor.c", import.meta.url));
    execFileSync("gcc", ["-O1", "-fno-stack-protector", "-fcf-protection=none", "-o", this.#program, source]);
  }

  run(cases: Uint8Array): Uint8Array {
    const { status, signal, stdout } = spawnSync(this.#program, { input: cases, maxBuffer: 1 << 30 });
    if (status === 0 && stdout.length === cases.length) return stdout;
    throw new Error(`the program ended at case ${stdout.length / RECORD}: ${signal ?? status}`);
  }

  [Symbol.dispose](): void {
    rmSync(this.#directory, { recursive: true });
  }
}
