/** IN and OUT (Intel SDM vol. 2) of 64-bit code in ring 0, which may use every port, where the port answers in the vCPU's thread. */

import { c32, f64, i32, i64 } from "../../wasm/ops.ts";
import { type Context, Gpr, type IntegerSize, type Meaning } from "../context.ts";
import { fromI64, low32 } from "../words.ts";
import { isNotRing } from "./state.ts";

/** An immediate byte or DX. */
function portOf(c: Context, index: number) {
  if (c.operands[index]!.kind === "imm") return i32.and(low32(c.read(index)), c32(0xff));
  return low32(c.gpr(Gpr.RDX, 2));
}

const input: Meaning = (c) => {
  if (c.bits !== 64) return c.microcode();
  c.microcodeIf(isNotRing(c, 0));
  const size = c.operands[0]!.size as IntegerSize;
  const answer = c.portRead(portOf(c, 1), size);
  c.microcodeIf(f64.lt(answer, f64.const(0)));
  c.setGpr(Gpr.RAX, size, fromI64(size, i64.trunc_sat_f64_s(answer)));
};

const output: Meaning = (c) => {
  if (c.bits !== 64) return c.microcode();
  c.microcodeIf(isNotRing(c, 0));
  const size = c.operands[1]!.size as IntegerSize;
  c.microcodeIf(i32.eqz(c.portWrite(portOf(c, 0), size, low32(c.gpr(Gpr.RAX, size)))));
};

export const portInstructions: Record<string, Meaning> = { in: input, out: output };
