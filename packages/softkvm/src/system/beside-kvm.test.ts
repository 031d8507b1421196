/**
 * System instructions and events in random states, on /dev/kvm and here: registers, segments and memory afterwards are
 * compared. LODGE_SEED repeats a run; LODGE_CASES says how many. With real ring 0:
 *
 *     npm run lab -- node --test packages/softkvm/src/system/beside-kvm.test.ts
 */

import assert from "node:assert/strict";
import { test } from "node:test";
import { BesideKvm, differences, noKvm } from "../../testing/beside-kvm.ts";
import { oracle } from "../../testing/oracles.ts";
import { Random } from "../../testing/random.ts";
import { MEMORY, MODES, scenario } from "../../testing/scenario.ts";

const { LODGE_SEED, LODGE_CASES, LODGE_LONG } = process.env;
const seed = LODGE_SEED === undefined ? Date.now() % 1_000_000_000 : Number(LODGE_SEED);
const cases = Number(LODGE_CASES ?? (LODGE_LONG ? 20_000 : 1_000));

/** Endings that mean something: others are KVM's limits or programs that went where no test goes. */
const MEANINGFUL = ["halt", "shutdown"];

for (const mode of MODES) {
  test(`${mode}: ${cases} random system instructions do what they do on KVM (seed ${seed})`, { skip: noKvm }, (t) => {
    using both = new BesideKvm(MEMORY);
    const skipped = new Map<string, number>();
    const count = (reason: string) => void skipped.set(reason, (skipped.get(reason) ?? 0) + 1);
    let compared = 0;
    for (let index = 0; index < cases; index++) {
      const { tssType, oddStacks } = oracle;
      const made = scenario(new Random(seed * 1_000_003 + index), { mode, tssType, oddStacks });
      const reason = oracle.skip(made);
      if (reason !== undefined) {
        count(reason);
        continue;
      }
      both.load(made.image, made.state);
      const kvm = both.runKvm();
      const soft = both.runSoft();
      if (!MEANINGFUL.includes(kvm.end)) count(`KVM: ${kvm.end}`);
      else if (["hole", "no-microcode"].includes(soft.end)) count("the program went astray");
      else {
        compared++;
        if (kvm.end === "shutdown" && soft.end === "shutdown") continue;
        const found = differences(kvm, soft, both.memory, both.soft.bytes).filter(
          (difference) => !oracle.tolerates(difference, made, kvm, soft),
        );
        const code = Buffer.from(made.image.subarray(0x1000, 0x100c)).toString("hex");
        assert.deepEqual(found, [], `${made.name} (${code}), ${mode}, LODGE_SEED=${seed}, case ${index}`);
      }
    }
    t.diagnostic(`${compared} compared; skipped: ${JSON.stringify(Object.fromEntries(skipped))}`);
    if (mode !== "vm86" || process.env.LODGE_LAB) assert.ok(compared > cases / 20, `only ${compared} were compared`);
  });
}
