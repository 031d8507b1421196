/**
 * The decoder against binutils: every opcode of every map, and random bytes, with random prefixes, in 16-, 32- and 64-bit
 * code. Length, name and operands have to agree as text but for the documented differences. LODGE_LONG=1 tries more;
 * LODGE_SEED repeats a run.
 */

import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { Decoder } from "./decoder.ts";
import { format } from "./format.ts";
import { type CodeSize, Instruction, Status } from "./instruction.ts";
import { encodings } from "./testing/encodings.ts";
import { knownDifference, normalize } from "./testing/objdump-differences.ts";

const SEED = Number(process.env.LODGE_SEED ?? Date.now() % 1_000_000);
const ROUNDS = process.env.LODGE_LONG ? 1000 : 20;
const BATCH = 100_000;

/**
 * Room for each instruction, which begins at `START`; zeros follow. objdump skips zeros, but only fours of them, so nops
 * make their number right. After something undefined, which objdump may take for longer or shorter, a row of nops brings
 * it into step again.
 */
const SLOT = 48;
const START = 12;
const MACHINES: Record<CodeSize, string> = { 16: "i8086", 32: "i386", 64: "i386:x86-64" };

interface Disassembled {
  length: number;
  text: string;
}
interface Decoded extends Disassembled {
  /** A jump within 64 KiB: objdump keeps the upper half of the address. */
  wraps: boolean;
}

/** The lines of `objdump` at the start of each slot. */
function disassemble(image: Uint8Array, bits: CodeSize): Map<number, Disassembled> {
  const directory = mkdtempSync(join(tmpdir(), "lodge-decode-"));
  try {
    const file = join(directory, "image");
    writeFileSync(file, image);
    const options = ["-D", "-w", "-b", "binary", "-m", MACHINES[bits], "-M", "intel,intel64"];
    const { stdout, error } = spawnSync("objdump", [...options, file], { encoding: "latin1", maxBuffer: 1 << 30 });
    if (error) throw error;
    const lines = new Map<number, Disassembled>();
    for (const line of stdout.split("\n")) {
      const match = /^\s*([0-9a-f]+):\t((?:[0-9a-f]{2} )+) *\t?(.*)$/.exec(line);
      if (!match) continue;
      const address = Number.parseInt(match[1]!, 16);
      if (address % SLOT === START) lines.set(address, { length: match[2]!.trim().split(" ").length, text: match[3]! });
    }
    return lines;
  } finally {
    rmSync(directory, { recursive: true });
  }
}

function compare(bits: CodeSize, candidates: Uint8Array[], decoder: Decoder, report: (line: string) => void): number {
  const image = new Uint8Array(candidates.length * SLOT);
  const instruction = new Instruction();
  let isInStep = true;
  const ours: Decoded[] = candidates.map((bytes, i) => {
    const at = i * SLOT + START;
    const status = decoder.decode(bytes, 0, bytes.length, bits, instruction);
    const length = status === Status.OK ? instruction.length : bytes.length;
    image.fill(0x90, isInStep ? at - 1 : at - START, at);
    image.set(bytes.subarray(0, length), at);
    isInStep = status === Status.OK;
    if (isInStep) image.fill(0x90, at + length, at + length + ((SLOT - 1 - length) & 3));
    if (status !== Status.OK)
      return { length: 0, text: status === Status.UNDEFINED ? "(bad)" : `status ${status}`, wraps: false };
    const wraps = bits !== 64 && instruction.operandSize === 16 && instruction.operands[0].kind === "rel";
    return { length, text: format(instruction, BigInt(at)), wraps: wraps && instruction.operandCount > 0 };
  });
  const theirs = disassemble(image, bits);
  let compared = 0;
  for (const [i, mine] of ours.entries()) {
    const other = theirs.get(i * SLOT + START);
    // A candidate of zeros is part of a block that is skipped; of 16 bytes there are only 15.
    if (!other || mine.text === `status ${Status.TOO_LONG}`) continue;
    compared++;
    const isBad = /\(bad\)|\?/.test(other.text);
    let [left, right] = [normalize(mine.text), isBad ? "(bad)" : normalize(other.text)];
    if (mine.wraps) right = right.replace(/0x[0-9a-f]+$/, (target) => `0x${(Number(target) & 0xffff).toString(16)}`);
    // Sizes of what is only an address are a matter of taste.
    if (!right.includes(" PTR ")) left = left.replace(/\w+ PTR /, "");
    if (!left.includes(" PTR ")) right = right.replace(/\w+ PTR /, "");
    if (left === right && (isBad || mine.length === other.length)) continue;
    const bytes = candidates[i]!;
    if (knownDifference(bytes, left, right)) continue;
    const shown = Buffer.from(bytes.subarray(0, mine.length || 12)).toString("hex");
    report(`${bits}-bit ${shown}: ${left} (${mine.length}) | ${other.text} (${other.length})`);
  }
  return compared;
}

test("encodings of every opcode mean what objdump says", (t) => {
  t.diagnostic(`LODGE_SEED=${SEED}`);
  const decoder = new Decoder();
  const mismatches: string[] = [];
  let made = 0;
  let compared = 0;
  for (const bits of [16, 32, 64] as const) {
    let batch: Uint8Array[] = [];
    const flush = () => {
      made += batch.length;
      compared += compare(bits, batch, decoder, (line) => mismatches.push(line));
      batch = [];
    };
    for (const bytes of encodings(SEED + bits, bits, ROUNDS)) {
      batch.push(bytes);
      if (batch.length === BATCH) flush();
    }
    flush();
  }
  t.diagnostic(`${compared} encodings compared`);
  assert.deepEqual(mismatches.slice(0, 20), [], `${mismatches.length} differ`);
  assert.ok(compared > 0.99 * made, `${made} made`);
});
