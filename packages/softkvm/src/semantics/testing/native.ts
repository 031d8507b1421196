/** The processor that runs the tests as the judge of single instructions: see native.c. */

import { execFileSync, spawnSync } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

export const CODE = 0x40000;
export const DATA = 0x42000;
export const DATA_BYTES = 256;
export const STACK = 0x42800;
const FX_BYTES = 512;
const UPPER_BYTES = 256;

/** Registers and memory, before or after an instruction. */
export interface Machine {
  /** FXSAVE image, 64-bit format. */
  readonly fx: Uint8Array;
  /** The upper halves of ymm registers. */
  readonly upper: Uint8Array;
  readonly gpr: BigUint64Array;
  flags: bigint;
  readonly data: Uint8Array;
}

export interface Trial extends Machine {
  readonly code: Uint8Array;
}

export interface Outcome extends Machine {
  /** The exception's vector, 1 when the instruction completed. */
  vector: number;
}

export const newMachine = (): Machine => ({
  fx: new Uint8Array(FX_BYTES),
  upper: new Uint8Array(UPPER_BYTES),
  gpr: new BigUint64Array(16),
  flags: 0n,
  data: new Uint8Array(DATA_BYTES),
});

/** Offsets of what follows the image in a record. */
const GPR = FX_BYTES + UPPER_BYTES;
const FLAGS = GPR + 16 * 8;
const MEMORY = FLAGS + 8;
const STATE = MEMORY + DATA_BYTES;

/** Why the processor cannot be asked here, or false. For a test's `skip`. */
export function noProcessor(): string | false {
  if (process.platform !== "linux" || process.arch !== "x64") return "needs an x86-64 Linux";
  return spawnSync("gcc", ["--version"]).status !== 0 && "gcc is not installed";
}

export function runNatively(trials: readonly Trial[]): Outcome[] {
  const directory = mkdtempSync(join(tmpdir(), "lodge-native-"));
  try {
    const program = join(directory, "native");
    const source = fileURLToPath(new URL("native.c", import.meta.url));
    execFileSync("gcc", ["-O1", "-fno-stack-protector", "-fcf-protection=none", "-o", program, source]);
    const record = 20 + STATE;
    const input = Buffer.alloc(trials.length * record);
    for (const [index, { code, fx, upper, gpr, flags, data }] of trials.entries()) {
      const at = index * record;
      input.writeUInt32LE(code.length, at);
      input.set(code, at + 4);
      input.set(fx, at + 20);
      input.set(upper, at + 20 + FX_BYTES);
      input.set(new Uint8Array(gpr.buffer), at + 20 + GPR);
      input.writeBigUInt64LE(flags, at + 20 + FLAGS);
      input.set(data, at + 20 + MEMORY);
    }
    const { status, signal, stdout, stderr } = spawnSync(program, { input, maxBuffer: 1 << 30 });
    if (status !== 0) throw new Error(`native ended (${signal ?? status}): ${stderr}`);
    return trials.map((_, index) => {
      const at = stdout.subarray(index * (4 + STATE), (index + 1) * (4 + STATE));
      return {
        vector: at.readUInt32LE(0),
        fx: at.subarray(4, 4 + FX_BYTES),
        upper: at.subarray(4 + FX_BYTES, 4 + GPR),
        gpr: new BigUint64Array(new Uint8Array(at.subarray(4 + GPR, 4 + FLAGS)).buffer),
        flags: at.readBigUInt64LE(4 + FLAGS),
        data: at.subarray(4 + MEMORY),
      };
    });
  } finally {
    rmSync(directory, { recursive: true });
  }
}
