/**
 * `npm run fuzz:ring0 -- [cases] [--seed N] [--seconds N] [--only MODE,...|page-tables] [--show N]`: random system
 * instructions in random states of each mode, and accesses through random page tables, on kvm-amd in the lab and in
 * software. Without the lab (`node packages/softkvm/fuzz/ring0.ts`) it compares with this machine's /dev/kvm.
 */

import { parseArgs } from "node:util";
import { BesideKvm, noKvm } from "../testing/beside-kvm.ts";
import { PageTablesBesideKvm } from "../testing/page-tables-beside-kvm.ts";
import { MEMORY, MODES } from "../testing/scenario.ts";
import { compareScenario, type Verdict } from "../testing/scenario-beside-kvm.ts";

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    seed: { type: "string" },
    seconds: { type: "string" },
    only: { type: "string" },
    show: { type: "string", default: "3" },
  },
});
if (noKvm !== false) {
  console.error(`fuzz:ring0: ${noKvm}`);
  process.exit(2);
}
const KINDS = [...MODES, "page-tables"] as const;
const kinds = values.only?.split(",") ?? KINDS;
const unknown = kinds.find((kind) => !(KINDS as readonly string[]).includes(kind));
const cases = Number(positionals[0] ?? 1000);
const seed = Number(values.seed ?? Date.now() % 1_000_000_000);
const seconds = Number(values.seconds ?? Number.POSITIVE_INFINITY);
if (unknown !== undefined || ![cases, seed, seconds, Number(values.show)].every((number) => number >= 0)) {
  console.error(`fuzz:ring0: ${unknown ?? process.argv.slice(2).join(" ")}: give a number of cases, and ${KINDS}`);
  process.exit(2);
}

/** Cases are compared in turns of so many of each kind, so that time that runs out is taken from all alike. */
const TURN = 50;

/** Of a stack that one side wrote to and the other did not, a few bytes tell all. */
const LINES = 10;

function show(what: string, differences: readonly string[]): void {
  const more = differences.length > LINES ? [`and ${differences.length - LINES} more`] : [];
  console.log(`--- ${[what, ...differences.slice(0, LINES), ...more].join("\n  ")}`);
}

class Kind {
  readonly name: string;
  readonly compare: (index: number) => Verdict;
  readonly skipped = new Map<string, number>();
  done = 0;
  compared = 0;
  differing = 0;

  constructor(name: string, compare: (index: number) => Verdict) {
    this.name = name;
    this.compare = compare;
  }

  turn(): void {
    for (const end = Math.min(this.done + TURN, cases); this.done < end; this.done++) {
      const { what, skipped, differences } = this.compare(this.done);
      if (skipped !== undefined) this.skipped.set(skipped, (this.skipped.get(skipped) ?? 0) + 1);
      else this.compared++;
      if (differences.length === 0) continue;
      if (this.differing++ < Number(values.show)) show(what, differences);
    }
  }

  toString(): string {
    const reasons = [...this.skipped].sort(([, a], [, b]) => b - a).map(([reason, count]) => `${count} ${reason}`);
    const rest = reasons.length > 0 ? `; not comparable: ${reasons.join(", ")}` : "";
    return `${this.name}: ${this.compared} of ${this.done} compared, ${this.differing} differ${rest}`;
  }
}

using both = new BesideKvm(MEMORY);
using tables = new PageTablesBesideKvm();
const all = KINDS.filter((kind) => kinds.includes(kind)).map((kind) =>
  kind === "page-tables"
    ? new Kind(kind, (index) => tables.compare(seed, index))
    : new Kind(kind, (index) => compareScenario(both, kind, seed, index)),
);
const where = process.env.LODGE_LAB === undefined ? "this machine's /dev/kvm" : "kvm-amd in the lab";
console.log(`${where}: seed ${seed}, ${cases} cases of each kind`);
const start = performance.now();
const isTimeUp = () => performance.now() - start > seconds * 1000;
while (!isTimeUp() && all.some(({ done }) => done < cases)) for (const kind of all) kind.turn();
for (const kind of all) console.log(String(kind));
const differing = all.reduce((sum, kind) => sum + kind.differing, 0);
const compared = all.reduce((sum, kind) => sum + kind.compared, 0);
console.log(`${compared} compared in ${((performance.now() - start) / 1000).toFixed(0)} s, ${differing} differ`);
process.exitCode = differing > 0 ? 1 : 0;
