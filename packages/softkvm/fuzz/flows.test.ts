/**
 * Programs with calls, returns, tables of jumps and loops: compiled code against the interpreter. fuzz.test.ts has some of
 * them on the processor, where there is one to ask. `LODGE_SEED` repeats a run, `LODGE_LONG=1` makes it twenty times as long.
 */

import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { CODE_IMAGES } from "../src/interpreter/limits.ts";
import { programBatches } from "./campaign.ts";
import type { FuzzCase } from "./case.ts";
import { differences, same } from "./compare.ts";
import { CompiledSubject, RecordedSubject, SampledSubject } from "./compiled.ts";
import { FlowGenerator } from "./flows.ts";
import { coverage, INTEGER } from "./generate.ts";
import { InterpreterSubject } from "./interpreter.ts";
import { CODE_BYTES, DATA_BYTES, physicalOf, SLOTS, SlotPages } from "./layout.ts";
import { Outcome } from "./outcome.ts";
import { serialize } from "./report.ts";

const SEED = Number(process.env.LODGE_SEED ?? Date.now() % 2 ** 31);
const PROGRAMS = (process.env.LODGE_LONG ? 20 : 1) * SLOTS;

/** Some that keep their registers in other locals, and do not fault. */
const VECTORS = [
  "movdqu",
  "movd",
  "movq",
  "paddd",
  "psubb",
  "pxor",
  "pand",
  "pshufd",
  "punpckldq",
  "pcmpeqb",
  "pmovmskb",
];

const fewest = CODE_IMAGES.fewestBlocks;
before(() => {
  CODE_IMAGES.fewestBlocks = 1;
});
after(() => {
  CODE_IMAGES.fewestBlocks = fewest;
});

for (const [what, wanted] of [
  ["integer", INTEGER],
  ["vector", VECTORS],
  ["mixed", [...INTEGER, ...VECTORS]],
] as const) {
  test(`programs of ${what} instructions end in compiled code as in the interpreter`, (t) => {
    t.diagnostic(`LODGE_SEED=${SEED}`);
    const one = new InterpreterSubject();
    const compiled = [new CompiledSubject(), new SampledSubject()];
    const endings = { exit: 0, fault: 0, unable: 0 };
    for (const cases of programBatches(new FlowGenerator(SEED, coverage(new Set(wanted))), 0, PROGRAMS)) {
      one.load(cases);
      const expected = cases.map((fuzzCase) => {
        const outcome = new Outcome();
        one.run(fuzzCase, outcome);
        endings[outcome.ending] += 1;
        return outcome;
      });
      const check = (other: InterpreterSubject) => {
        other.load(cases);
        for (const [index, fuzzCase] of cases.entries()) {
          const outcome = new Outcome();
          other.run(fuzzCase, outcome);
          const lines = differences(expected[index]!, outcome, 0);
          lines.push(...memoryDifferences(fuzzCase, one.memory, other.memory));
          assert.deepEqual(lines, [], `${other.name}, LODGE_SEED=${SEED}: ${serialize(fuzzCase)}`);
        }
      };
      for (const other of compiled) check(other);
      const recorded = new RecordedSubject();
      check(recorded);
      const again = new RecordedSubject(recorded);
      check(again);
      const { blocks, used } = again.reuse!;
      assert.ok(used > blocks / 2, `only ${used} of ${blocks} blocks that were recorded were met again`);
    }
    t.diagnostic(`${endings.exit} went to their ends, ${endings.fault} faulted`);
    assert.ok(endings.exit > PROGRAMS / 2, `only ${endings.exit} of ${PROGRAMS} programs came to their ends`);
  });
}

function memoryDifferences({ slot }: FuzzCase, one: Uint8Array, other: Uint8Array): string[] {
  const pages = { data: DATA_BYTES, code: CODE_BYTES };
  return Object.entries(pages)
    .filter(([name, size]) => {
      const start = physicalOf(slot, SlotPages[name as keyof typeof pages].physical);
      return !same(one, other, start, size);
    })
    .map(([name]) => `memory: ${name}`);
}
