/** Single instructions on this machine's processor, as a process that a C program is compiled to. */

import { execFileSync, spawnSync } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import type { CodeSize } from "../instruction.ts";

export interface Trial {
  bits: CodeSize;
  bytes: Uint8Array;
  /** How many of the bytes there are; after them the address space has a hole. */
  length: number;
  /** A general register to begin with `value`, below 256; the others are 0 but for the stack pointer. */
  reg?: number;
  value?: number;
}

export interface Outcome {
  /** The exception's vector: 1 (#DB, by single-step) when the instruction completed. */
  vector: number;
  /** It was a page fault because bytes of the instruction were missing. */
  ranOut: boolean;
}

const RECORD = 19;

/** Why the processor cannot be asked here, or false. For a test's `skip`. */
export function noRing3(): string | false {
  if (process.platform !== "linux" || process.arch !== "x64") return "needs an x86-64 Linux";
  if (spawnSync("gcc", ["--version"]).status !== 0) return "gcc is not installed";
  try {
    runInRing3([{ bits: 16, bytes: Uint8Array.of(0x90), length: 1 }]);
    return false;
  } catch (error) {
    return `this kernel does not run 16-bit code: ${error}`;
  }
}

export function runInRing3(trials: readonly Trial[]): Outcome[] {
  const directory = mkdtempSync(join(tmpdir(), "lodge-ring3-"));
  try {
    const program = join(directory, "ring3");
    const source = fileURLToPath(new URL("ring3.c", import.meta.url));
    execFileSync("gcc", ["-O1", "-fno-stack-protector", "-fcf-protection=none", "-o", program, source]);
    const input = Buffer.alloc(trials.length * RECORD);
    for (const [i, { bits, bytes, length, reg = 255, value = 0 }] of trials.entries()) {
      input.set([bits, length, reg, value], i * RECORD);
      input.set(bytes.subarray(0, 15), i * RECORD + 4);
    }
    const { status, signal, stdout, stderr } = spawnSync(program, { input, maxBuffer: 1 << 30 });
    if (status !== 0) throw new Error(`ring3 ended after ${stdout.length / 2} trials (${signal ?? status}): ${stderr}`);
    return trials.map((_, i) => ({ vector: stdout[i * 2]!, ranOut: stdout[i * 2 + 1] === 1 }));
  } finally {
    rmSync(directory, { recursive: true });
  }
}
