/**
 * The decoder against the processor that runs the test, in 16-, 32- and 64-bit code: which instructions are #UD, and which
 * bytes are fetched, for them and for the others. One byte fewer than the decoder takes has to fault at the page that
 * follows, exactly those must not. LODGE_LONG=1 tries more; LODGE_SEED repeats a run.
 */

import assert from "node:assert/strict";
import { test } from "node:test";
import { notIntel } from "../../testing/vendor.ts";
import { Decoder } from "./decoder.ts";
import { format } from "./format.ts";
import { Instruction, Status } from "./instruction.ts";
import { encodings } from "./testing/encodings.ts";
import { newerExtension, UNDEFINED_IN_COMPATIBILITY, UNDEFINED_IN_RING_3 } from "./testing/processor-differences.ts";
import { noRing3, type Outcome, runInRing3, type Trial } from "./testing/ring3.ts";

const SEED = Number(process.env.LODGE_SEED ?? Date.now() % 1_000_000);
const ROUNDS = process.env.LODGE_LONG ? 200 : 5;
const UNDEFINED = 6;

interface Case extends Trial {
  text: string;
  mnemonic: string;
  /** What the decoder says of it: just enough to see that it is undefined, a whole instruction, or one byte less. */
  expected: "undefined" | "whole" | "cut";
}

/** What the processor sees another way. */
function judge({ bits, mnemonic, expected }: Case, { vector, ranOut }: Outcome): string | undefined {
  switch (expected) {
    case "undefined":
      return vector === UNDEFINED ? undefined : "is not #UD";
    case "cut":
      return ranOut ? undefined : "wants no more bytes";
    case "whole":
      if (ranOut) return "wants more bytes";
      if (vector !== UNDEFINED || UNDEFINED_IN_RING_3.has(mnemonic)) return undefined;
      return bits !== 64 && UNDEFINED_IN_COMPATIBILITY.has(mnemonic) ? undefined : "is #UD";
  }
}

test("the processor takes the same bytes and refuses the same instructions", { skip: noRing3() || notIntel }, (t) => {
  t.diagnostic(`LODGE_SEED=${SEED}`);
  const decoder = new Decoder();
  const instruction = new Instruction();
  const mismatches: string[] = [];
  let count = 0;
  for (const bits of [16, 32, 64] as const) {
    const trials: Case[] = [];
    for (const bytes of encodings(SEED + bits, bits, ROUNDS)) {
      count++;
      const status = decoder.decode(bytes, 0, bytes.length, bits, instruction);
      if (status !== Status.OK && status !== Status.UNDEFINED) continue;
      const { length } = instruction;
      const valid = status === Status.OK;
      const text = valid ? format(instruction) : "(bad)";
      const mnemonic = valid ? instruction.form.mnemonic : "";
      if (!valid && newerExtension(Buffer.from(bytes).toString("hex"))) continue;
      trials.push({ bits, bytes, length, text, mnemonic, expected: valid ? "whole" : "undefined" });
      if (length > 1) trials.push({ bits, bytes, length: length - 1, text, mnemonic, expected: "cut" });
    }
    const outcomes = runInRing3(trials);
    for (const [i, trial] of trials.entries()) {
      const problem = judge(trial, outcomes[i]!);
      const hex = Buffer.from(trial.bytes.subarray(0, trial.length)).toString("hex");
      if (problem) mismatches.push(`${bits}-bit ${hex} ${trial.text}: ${problem}, exception ${outcomes[i]!.vector}`);
    }
  }
  t.diagnostic(`${count} encodings`);
  assert.deepEqual(mismatches.slice(0, 20), [], `${mismatches.length} differ`);
});
