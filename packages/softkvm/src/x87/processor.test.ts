/**
 * Every x87 instruction against the processor that runs the test, in ring 3: registers, words, tags, pointers, memory and
 * flags, bit for bit but for what testing/tolerance.ts names. LODGE_LONG=1 tries more; LODGE_SEED repeats a run.
 */

import assert from "node:assert/strict";
import { test } from "node:test";
import { encodings, makeCases } from "./testing/cases.ts";
import { describe, differences } from "./testing/compare.ts";
import { noProcessor, Oracle } from "./testing/oracle.ts";
import { Random } from "./testing/random.ts";
import { RECORD } from "./testing/record.ts";
import { HandlerSubject, Subject } from "./testing/subject.ts";
import { tolerate } from "./testing/tolerance.ts";

const SEED = Number(process.env.LODGE_SEED ?? Date.now() % 1_000_000);
const CASES = process.env.LODGE_LONG ? 3_000_000 : 120_000;
const BATCH = 40_000;

for (const [name, make] of [
  ["microcode", () => new Subject()],
  ["handlers", () => new HandlerSubject()],
] as const) {
  test(`x87 instructions do by ${name} what they do on the processor`, { skip: noProcessor() }, (t) => {
    t.diagnostic(`LODGE_SEED=${SEED}`);
    using oracle = new Oracle();
    const subject = make();
    const random = new Random(SEED);
    const list = encodings();
    const mismatches: string[] = [];
    for (let done = 0; done < CASES; done += BATCH) {
      const cases = makeCases(random, list, BATCH);
      const expected = oracle.run(cases);
      const actual = subject.run(cases);
      for (let index = 0; index < BATCH; index++) {
        const part = (all: Uint8Array) => new DataView(all.buffer, all.byteOffset + index * RECORD, RECORD);
        const { mnemonic, text } = list[index % list.length]!;
        tolerate(mnemonic, part(expected), part(actual));
        const found = differences(part(expected), part(actual));
        if (found.length > 0) mismatches.push(`${text}: ${found.join("; ")}\n    ${describe(part(cases))}`);
      }
    }
    t.diagnostic(`${CASES} cases${subject instanceof HandlerSubject ? `, ${subject.quick} without microcode` : ""}`);
    assert.equal(mismatches.length, 0, `${mismatches.length} differ:\n${mismatches.slice(0, 10).join("\n")}`);
  });
}
