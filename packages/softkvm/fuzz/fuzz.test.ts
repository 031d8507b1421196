/**
 * The software CPU against the processor: random instructions and programs, bit for bit. `LODGE_SEED` repeats a run,
 * `LODGE_LONG=1` makes it a million.
 */

import assert from "node:assert/strict";
import { test } from "node:test";
import { openKvm } from "@lodge/kvm/linux";
import { Aux } from "../src/cpu/layout.ts";
import { c32, i32 } from "../src/wasm/ops.ts";
import { batches, Campaign, type Mismatch, programBatches } from "./campaign.ts";
import { Xsave } from "./case.ts";
import { CompiledSubject } from "./compiled.ts";
import { FlowGenerator } from "./flows.ts";
import { coverage, Generator, INTEGER } from "./generate.ts";
import { InterpreterSubject } from "./interpreter.ts";
import { Control, linearOf } from "./layout.ts";
import { Oracle } from "./oracle.ts";
import { COMPARES_PROGRAMS, whyNot } from "./processor.ts";
import { ProgramGenerator } from "./programs.ts";
import { LINES, REGRESSIONS, regressionCase } from "./regressions.ts";
import { deserialize, showMismatch } from "./report.ts";

const SEED = Number(process.env.LODGE_SEED ?? Date.now() % 2 ** 31);
const CASES = process.env.LODGE_LONG ? 1_000_000 : 50_000;
const PROGRAMS = COMPARES_PROGRAMS ? CASES / 50 : 0;
/** Mismatches that are shown in full. */
const SHOWN = 3;

const skip = whyNoOracle() ?? false;

function whyNoOracle(): string | undefined {
  try {
    openKvm().close();
  } catch (error) {
    return (error as Error).message;
  }
  return whyNot();
}

const subjects = () => [new InterpreterSubject(), new CompiledSubject()];

/** Runs batches until all are done or enough has been found; the mismatches as text. */
function mismatches(campaign: Campaign, all: Iterable<Parameters<Campaign["run"]>[0]>): string[] {
  const found: Mismatch[] = [];
  for (const cases of all) {
    campaign.run(cases, (mismatch) => found.push(mismatch));
    if (found.length >= SHOWN) break;
  }
  return found.slice(0, SHOWN).map((mismatch) => showMismatch(campaign.minimize(mismatch), campaign));
}

test("random instructions and programs end as they do on the processor", { skip }, (t) => {
  t.diagnostic(`LODGE_SEED=${SEED}`);
  using oracle = new Oracle();
  const campaign = new Campaign(oracle, subjects());
  const covered = coverage();
  const programs = mismatches(campaign, programBatches(new ProgramGenerator(SEED, covered), 0, PROGRAMS));
  const flows = mismatches(
    campaign,
    programBatches(new FlowGenerator(SEED, coverage(new Set(INTEGER))), 0, PROGRAMS / 4),
  );
  const single = mismatches(campaign, batches(new Generator(SEED, covered), 0, CASES));
  const { compared, faults } = campaign.totals;
  t.diagnostic(
    `compared: ${[...compared].map(([subject, cases]) => `${cases} ${subject}`).join(", ")}; ${faults} faults`,
  );
  t.diagnostic(`${covered.known.size} mnemonics; without a meaning: ${[...covered.skipped.keys()].join(" ")}`);
  t.diagnostic(`not on this processor: ${[...covered.lacking.keys()].join(" ") || "nothing"}`);
  assert.deepEqual([...single, ...programs, ...flows], []);
  for (const [subject, cases] of compared) {
    assert.ok(cases > CASES * 0.8, `only ${cases} of ${CASES} cases could be compared on ${subject}`);
  }
});

test("what once differed ends alike", { skip }, () => {
  using oracle = new Oracle();
  const campaign = new Campaign(oracle, subjects());
  for (const regression of REGRESSIONS) {
    assert.deepEqual(mismatches(campaign, [[regressionCase(regression)]]), [], regression.why);
  }
  for (const line of LINES) assert.deepEqual(mismatches(campaign, [[deserialize(line)]]), []);
});

test("a case that reads another's state is not taken for a difference", { skip }, () => {
  using oracle = new Oracle();
  const campaign = new Campaign(oracle, subjects());
  const other = regressionCase({ why: "has a state", code: "90", writable: true });
  const state = BigInt(linearOf(other.slot, Control.xsave + Xsave.mxcsr));
  const reader = regressionCase({ why: "reads it", code: "8b01", registers: { rcx: state } });
  assert.deepEqual(mismatches(campaign, [[reader, other]]), []);
});

test("a wrong flag of one mnemonic is found", { skip }, () => {
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
