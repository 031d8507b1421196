/** One random system instruction on /dev/kvm and in software: registers, segments, MSRs that it writes and memory. */

import { type BesideKvm, differences } from "./beside-kvm.ts";
import { oracle } from "./oracles.ts";
import { Random } from "./random.ts";
import { type ScenarioMode, scenario } from "./scenario.ts";

/** What a comparison came to. `skipped`: why it says nothing. */
export interface Verdict {
  readonly what: string;
  readonly skipped?: string;
  readonly differences: readonly string[];
}

/** Endings that mean something: others are KVM's limits or programs that went where no test goes. */
const MEANINGFUL = ["halt", "shutdown"];

export function compareScenario(both: BesideKvm, mode: ScenarioMode, seed: number, index: number): Verdict {
  const { tssType, oddStacks } = oracle;
  const made = scenario(new Random(seed * 1_000_003 + index), { mode, tssType, oddStacks });
  const code = Buffer.from(made.image.subarray(0x1000, 0x100c)).toString("hex");
  const what = `${made.name} (${code}), ${mode}, LODGE_SEED=${seed}, case ${index}`;
  const skip = (skipped: string): Verdict => ({ what, skipped, differences: [] });
  const reason = oracle.skip(made);
  if (reason !== undefined) return skip(reason);
  both.load(made.image, made.state);
  const kvm = both.runKvm();
  const soft = both.runSoft();
  if (!MEANINGFUL.includes(kvm.end)) return skip(`KVM: ${kvm.end}`);
  if (["hole", "no-microcode"].includes(soft.end)) return skip("the program went astray");
  if (kvm.end === "shutdown" && soft.end === "shutdown") return { what, differences: [] };
  const found = differences(kvm, soft, both.memory, both.soft.bytes);
  return { what, differences: found.filter((difference) => !oracle.tolerates(difference, made, kvm, soft)) };
}
