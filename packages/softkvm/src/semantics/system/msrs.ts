/** WRMSR (Intel SDM vol. 2) of what the local APIC has: a kernel ends each interrupt by one and sets its timer by another. */

import type { I32 } from "../../wasm/expr.ts";
import { i32 } from "../../wasm/ops.ts";
import { type Context, Gpr, type Meaning } from "../context.ts";
import { isNotRing } from "./state.ts";

const wrmsr: Meaning = (c: Context) => {
  c.microcodeIf(isNotRing(c, 0));
  const half = (register: number) => c.gpr(register, 4) as I32;
  c.microcodeIf(i32.eqz(c.msrWrite(half(Gpr.RCX), half(Gpr.RAX), half(Gpr.RDX))));
  // Other MSRs change what code means: a block ends here. What was let through is taken at once.
  c.jump(c.nextRip());
};

export const msrInstructions: Record<string, Meaning> = { wrmsr };
