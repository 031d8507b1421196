/** Regions as a WebAssembly module: one function each, which goes to its region's slot of the table of handlers. */

import type { Instruction } from "../decode/instruction.ts";
import type { Block } from "../interpreter/block.ts";
import { importOutside } from "../interpreter/handlers.ts";
import type { Member } from "../interpreter/regions.ts";
import { ModuleBuilder } from "../wasm/module.ts";
import { type Look, noLook } from "./given-up.ts";
import { type RegionPlan, RegionWriter } from "./region.ts";

/** The module, to be encoded, and the entries of each region. */
export interface WrittenRegions {
  readonly module: ModuleBuilder;
  readonly entries: readonly (readonly Member[])[];
}

/**
 * `base`: where the vCPU's state is in linear memory. `instructions`: those of each block. `look` may throw: then nothing has
 * come of it.
 */
export function writeRegions(
  plans: readonly RegionPlan[],
  base: number,
  instructions: ReadonlyMap<Block, readonly Instruction[]>,
  look: Look = noLook,
): WrittenRegions {
  const module = new ModuleBuilder();
  const outside = importOutside(module);
  const entries = plans.map((plan) => {
    const { index, code } = module.function(["i32"], ["i32"]);
    module.elements(plan.slot, [index]);
    const writer = new RegionWriter(code, base, outside, plan, instructions, look);
    writer.write();
    return writer.entries;
  });
  return { module, entries };
}
