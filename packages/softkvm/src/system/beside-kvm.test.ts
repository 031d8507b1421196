/**
 * System instructions and events in random states, on /dev/kvm and here: registers, segments and memory afterwards are
 * compared. LODGE_SEED repeats a run; LODGE_CASES says how many. `npm run fuzz:ring0` does the same with real ring 0.
 */

import assert from "node:assert/strict";
import { test } from "node:test";
import { BesideKvm, noKvm } from "../../testing/beside-kvm.ts";
import { MEMORY, MODES } from "../../testing/scenario.ts";
import { compareScenario } from "../../testing/scenario-beside-kvm.ts";

const { LODGE_SEED, LODGE_CASES, LODGE_LONG } = process.env;
const seed = LODGE_SEED === undefined ? Date.now() % 1_000_000_000 : Number(LODGE_SEED);
const cases = Number(LODGE_CASES ?? (LODGE_LONG ? 20_000 : 1_000));

for (const mode of MODES) {
  test(`${mode}: ${cases} random system instructions do what they do on KVM (seed ${seed})`, { skip: noKvm }, (t) => {
    using both = new BesideKvm(MEMORY);
    const reasons = new Map<string, number>();
    let compared = 0;
    for (let index = 0; index < cases; index++) {
      const { what, skipped, differences } = compareScenario(both, mode, seed, index);
      if (skipped === undefined) compared++;
      else reasons.set(skipped, (reasons.get(skipped) ?? 0) + 1);
      assert.deepEqual(differences, [], what);
    }
    t.diagnostic(`${compared} compared; skipped: ${JSON.stringify(Object.fromEntries(reasons))}`);
    if (mode !== "vm86") assert.ok(compared > cases / 20, `only ${compared} were compared`);
  });
}
