/**
 * The software CPU against the processor: random instructions and programs, bit for bit. `LODGE_SEED` repeats a run,
 * `LODGE_LONG=1` makes it a million.
 */

import assert from "node:assert/strict";
import { existsSync } from "node:fs";
import { test } from "node:test";
import { Aux } from "../src/cpu/layout.ts";
import { c32, i32 } from "../src/wasm/ops.ts";
import { batches, Campaign, type Mismatch, programBatches } from "./campaign.ts";
import { coverage, Generator } from "./generate.ts";
import { InterpreterSubject } from "./interpreter.ts";
import { Oracle } from "./oracle.ts";
import { ProgramGenerator } from "./programs.ts";
import { LINES, REGRESSIONS, regressionCase } from "./regressions.ts";
import { deserialize, showMismatch } from "./report.ts";

const SEED = Number(process.env.LODGE_SEED ?? Date.now() % 2 ** 31);
const CASES = process.env.LODGE_LONG ? 1_000_000 : 50_000;
const PROGRAMS = CASES / 50;
/** Of a run in CI, in seconds, however busy the machine is. */
const LIMIT = process.env.LODGE_LONG ? Number.POSITIVE_INFINITY : 12;
/** Mismatches that are shown in full. */
const SHOWN = 3;

const noKvm = existsSync("/dev/kvm") ? false : "this host has no /dev/kvm to compare with";

const otherVendor = ({ name }: Oracle) =>
  `the software CPU follows Intel's processors where manuals leave something open; this is ${name}`;

/** Runs batches until all are done, enough has been found or time is up; the mismatches as text. */
function mismatches(
  campaign: Campaign,
  all: Iterable<Parameters<Campaign["run"]>[0]>,
  seconds = Number.POSITIVE_INFINITY,
): string[] {
  const found: Mismatch[] = [];
  const end = performance.now() + seconds * 1000;
  for (const cases of all) {
    if (performance.now() > end) break;
    campaign.run(cases, (mismatch) => found.push(mismatch));
    if (found.length >= SHOWN) break;
  }
  return found.slice(0, SHOWN).map((mismatch) => showMismatch(campaign.minimize(mismatch), campaign));
}

test("random instructions and programs end as they do on the processor", { skip: noKvm }, (t) => {
  t.diagnostic(`LODGE_SEED=${SEED}`);
  using oracle = new Oracle();
  if (!oracle.isIntel) {
    t.skip(otherVendor(oracle));
    return;
  }
  const campaign = new Campaign(oracle, [new InterpreterSubject()]);
  const covered = coverage();
  const programs = mismatches(campaign, programBatches(new ProgramGenerator(SEED, covered), 0, PROGRAMS), LIMIT / 4);
  const single = mismatches(campaign, batches(new Generator(SEED, covered), 0, CASES), LIMIT);
  t.diagnostic(`${campaign.totals.compared} compared, ${campaign.totals.faults} faults`);
  t.diagnostic(`${covered.known.size} mnemonics; without a meaning: ${[...covered.skipped.keys()].join(" ")}`);
  assert.deepEqual([...single, ...programs], []);
  const unable = [...campaign.totals.unable.values()].reduce((sum, times) => sum + times, 0);
  assert.ok(campaign.totals.compared > 5 * unable, `${unable} cases could not be compared`);
});

test("what once differed ends alike", { skip: noKvm }, (t) => {
  using oracle = new Oracle();
  if (!oracle.isIntel) {
    t.skip(otherVendor(oracle));
    return;
  }
  const campaign = new Campaign(oracle, [new InterpreterSubject()]);
  for (const regression of REGRESSIONS) {
    assert.deepEqual(mismatches(campaign, [[regressionCase(regression)]]), [], regression.why);
  }
  for (const line of LINES) assert.deepEqual(mismatches(campaign, [[deserialize(line)]]), []);
});

test("a wrong flag of one mnemonic is found", { skip: noKvm }, () => {
  using oracle = new Oracle();
  const wrong = new InterpreterSubject((mnemonic, meaning) => (c) => {
    meaning(c);
    if (mnemonic === "sbb") c.setFlags(c.flagResult(), i32.xor(c.flagAux(), c32(Aux.ADJUST)));
  });
  const campaign = new Campaign(oracle, [wrong]);
  const found: Mismatch[] = [];
  for (const cases of batches(new Generator(1, coverage(new Set(["sbb", "adc"]))), 0, 500)) {
    campaign.run(cases, (mismatch) => found.push(mismatch));
  }
  assert.ok(found.length > 100, `${found.length} of 500 differ`);
  assert.deepEqual(new Set(found.map(({ mnemonic }) => mnemonic)), new Set(["sbb"]));
  const again = deserialize(/repro: (.*)$/m.exec(showMismatch(campaign.minimize(found[0]!), campaign))![1]!);
  assert.equal(mismatches(campaign, [[again]]).length, 1, "the printed line reproduces the mismatch");
});
