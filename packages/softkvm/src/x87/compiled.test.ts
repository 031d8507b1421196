/**
 * Sequences of x87 instructions as compiled code against microcode, which processor.test.ts compares with the processor.
 * LODGE_LONG=1 tries more; LODGE_SEED repeats a run.
 */

import assert from "node:assert/strict";
import { test } from "node:test";
import { type Encoding, encodings, writeCase } from "./testing/cases.ts";
import { describe, differences } from "./testing/compare.ts";
import { Random } from "./testing/random.ts";
import { RECORD } from "./testing/record.ts";
import { RegionSubject, Subject } from "./testing/subject.ts";

const SEED = Number(process.env.LODGE_SEED ?? Date.now() % 1_000_000);
const SEQUENCES = process.env.LODGE_LONG ? 20_000 : 1_500;
const HLT = 0xf4;

/** States in memory would overwrite what makes operands interesting, and reset what is to be watched. */
const LEFT_OUT = new Set(["fldenv", "fnstenv", "frstor", "fnsave", "fninit"]);

test("compiled x87 instructions do what microcode does", (t) => {
  t.diagnostic(`LODGE_SEED=${SEED}`);
  const random = new Random(SEED);
  const list = encodings().filter(({ mnemonic }) => !LEFT_OUT.has(mnemonic));
  const reference = new Subject();
  const subject = new RegionSubject();
  const mismatches: string[] = [];
  for (let count = 0; count < SEQUENCES; count++) {
    const sequence: Encoding[] = Array.from({ length: 1 + random.below(12) }, () => list[random.below(list.length)]!);
    const code = Uint8Array.from([...sequence.flatMap(({ bytes }) => bytes), HLT]);
    const start = new DataView(new ArrayBuffer(RECORD));
    writeCase(random, sequence[0]!, start, 0);
    const [expected, actual] = [start, start].map(({ buffer }) => new DataView(buffer.slice(0)));
    reference.runSequence(expected!, code);
    subject.runSequence(actual!, code);
    const found = differences(expected!, actual!);
    if (found.length === 0) continue;
    mismatches.push(`${sequence.map(({ text }) => text).join(", ")}: ${found.join("; ")}\n    ${describe(start)}`);
  }
  t.diagnostic(`${SEQUENCES} sequences, ${subject.whole} without microcode`);
  assert.equal(mismatches.length, 0, `${mismatches.length} differ:\n${mismatches.slice(0, 10).join("\n")}`);
  assert.ok(subject.whole > 0);
});
