/**
 * `npm run fuzz:cpu -- [cases] [--seed N] [--programs N] [--seconds N] [--only add,sub|integer|vex] [--show N]
 * [--repro LINE]`: random instructions on the processor and on the software CPU, compared bit for bit.
 */

import { parseArgs } from "node:util";
import { batches, Campaign, type Mismatch, programBatches } from "./campaign.ts";
import { CompiledSubject } from "./compiled.ts";
import { coverage, Generator, INTEGER, VEX } from "./generate.ts";
import { InterpreterSubject } from "./interpreter.ts";
import { Oracle } from "./oracle.ts";
import { COMPARES_PROGRAMS, NAME, whyNot } from "./processor.ts";
import { ProgramGenerator } from "./programs.ts";
import { deserialize, showMismatch } from "./report.ts";

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    seed: { type: "string" },
    only: { type: "string" },
    programs: { type: "string" },
    seconds: { type: "string" },
    repro: { type: "string" },
    show: { type: "string", default: "3" },
  },
});
const GROUPS: Readonly<Record<string, readonly string[]>> = { integer: INTEGER, vex: VEX };
const total = Number(positionals[0] ?? 100_000);
const seed = Number(values.seed ?? Date.now() % 2 ** 31);
const wanted = values.only === undefined ? undefined : new Set(GROUPS[values.only] ?? values.only.split(","));
const covered = coverage(wanted);
if (covered.known.size === 0) {
  const why = [...covered.skipped.keys(), ...covered.lacking.keys()].join(", ") || "not a mnemonic or group";
  console.error(`fuzz:cpu: --only ${values.only}: nothing can be compared (${why}); name others, integer or vex`);
  process.exit(2);
}
const generator = new Generator(seed, covered);

const reason = whyNot();
if (reason !== undefined) {
  console.error(`fuzz:cpu: ${reason}`);
  process.exit(2);
}
using oracle = new Oracle();
const campaign = new Campaign(oracle, [new InterpreterSubject(), new CompiledSubject()]);
const shown = new Map<string, number>();
let mismatches = 0;
const report = (mismatch: Mismatch) => {
  mismatches += 1;
  const before = shown.get(mismatch.mnemonic) ?? 0;
  shown.set(mismatch.mnemonic, before + 1);
  if (before < Number(values.show)) console.log(showMismatch(campaign.minimize(mismatch), campaign));
};
if (values.repro !== undefined) {
  campaign.run([deserialize(values.repro)], report);
  process.exit(mismatches);
}
console.log(`${NAME}: seed ${seed}, ${total} cases, ${covered.known.size} mnemonics`);
const start = performance.now();
const programs = Number(values.programs ?? (COMPARES_PROGRAMS ? Math.ceil(total / 50) : 0));
const end = start + Number(values.seconds ?? Number.POSITIVE_INFINITY) * 1000;
for (const cases of programBatches(new ProgramGenerator(seed, covered), 0, programs)) campaign.run(cases, report);
for (const cases of batches(generator, 0, total)) {
  if (performance.now() > end) break;
  campaign.run(cases, report);
}
const seconds = (performance.now() - start) / 1000;

const { totals } = campaign;
const list = (map: ReadonlyMap<string, number>) =>
  [...map]
    .sort(([, a], [, b]) => b - a)
    .map(([key, count]) => `${key} ${count}`)
    .join(", ");
console.log(`compared in ${seconds.toFixed(1)} s: ${list(totals.compared)}`);
console.log(`${totals.faults} ended in a fault; ${generator.discarded} encodings discarded`);
if (totals.unable.size > 0) console.log(`not compared: ${list(totals.unable)}`);
console.log(`${covered.skipped.size} mnemonics without a meaning: ${[...covered.skipped.keys()].join(" ")}`);
if (mismatches > 0) console.log(`${mismatches} differ: ${list(shown)}`);
process.exitCode = mismatches > 0 ? 1 : 0;
