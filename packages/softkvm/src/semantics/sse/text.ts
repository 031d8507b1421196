/** PCMPESTRI and its kin: Intel SDM vol. 2. They are compared in TypeScript; this is how they get there and back. */

import { State } from "../../cpu/layout.ts";
import { UnitOperation } from "../../vector-unit/operations.ts";
import { IMPLICIT } from "../../vector-unit/strings.ts";
import type { I32 } from "../../wasm/expr.ts";
import { c32, c64, i32, i64, select } from "../../wasm/ops.ts";
import { i32x4 } from "../../wasm/simd.ts";
import { type Context, Gpr, type Meaning } from "../context.ts";
import { setArithmeticFlags } from "../flags.ts";
import { signExtend, zeroExtend } from "../words.ts";

const MOST = 16;

/** The magnitude of a register that tells a length; what is beyond a vector is all of it. */
function length(c: Context, register: number): I32 {
  const size = c.operandSize === 8 ? 8 : 4;
  const value = c.let(signExtend(size, c.gpr(register, size)));
  const magnitude = c.let(select(i64.lt_s(value, c64(0)), i64.sub(c64(0), value), value));
  return select(i64.gt_u(magnitude, c64(MOST)), c32(MOST), i32.wrap(magnitude));
}

function compareStrings(lengths: "explicit" | "implicit", result: "index" | "mask"): Meaning {
  return (c) => {
    const b = c.let(c.readVector(1, "unaligned"));
    const a = c.readVector(0);
    const explicit = lengths === "explicit";
    const ofA = explicit ? length(c, Gpr.RAX) : c32(IMPLICIT);
    const ofB = explicit ? length(c, Gpr.RDX) : c32(IMPLICIT);
    const argument = i32.or(c32(c.immediate(2)), i32.or(i32.shl(ofA, c32(8)), i32.shl(ofB, c32(16))));
    const isIndex = result === "index";
    const code = isIndex ? UnitOperation.STRING_INDEX : UnitOperation.STRING_MASK;
    const compared = c.vectorUnit(code, a, b, argument);
    if (isIndex) c.setGpr(Gpr.RCX, 8, zeroExtend(4, i32x4.extract_lane(compared, 0)));
    else c.setVectorRegister(0, compared);
    setArithmeticFlags(c, c.state32(State.transfer + 16));
  };
}

export const text: Record<string, Meaning> = {
  pcmpestri: compareStrings("explicit", "index"),
  pcmpestrm: compareStrings("explicit", "mask"),
  pcmpistri: compareStrings("implicit", "index"),
  pcmpistrm: compareStrings("implicit", "mask"),
};
