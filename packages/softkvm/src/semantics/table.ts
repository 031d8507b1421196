/** All meanings by mnemonic, as the decoder's tables name them. What is not here is done in TypeScript (system/). */

import { floatMoveIf, x87 } from "../x87/quick/meanings.ts";
import { arithmetic } from "./arithmetic.ts";
import { avx } from "./avx/table.ts";
import { bits } from "./bits.ts";
import { bmi } from "./bmi.ts";
import { branches, branchIf } from "./branches.ts";
import type { Meaning } from "./context.ts";
import { data, moveIf, setIf } from "./data.ts";
import { multiplication } from "./multiply.ts";
import { shifts } from "./shifts.ts";
import { whereAvailable } from "./sse/availability.ts";
import { vectors } from "./sse/table.ts";
import { strings } from "./strings.ts";
import { systemInstructions } from "./system/table.ts";

const meanings: ReadonlyMap<string, Meaning> = new Map(
  Object.entries({
    ...arithmetic,
    ...bits,
    ...branches,
    ...data,
    ...multiplication,
    ...shifts,
    ...strings,
    ...systemInstructions,
    ...whereAvailable({ ...vectors, ...avx, ...bmi }),
    ...x87,
  }),
);

/** The families of sixteen, made for each condition code. */
const families: Record<string, ((code: number) => Meaning) | undefined> = {
  jcc: branchIf,
  setcc: setIf,
  cmovcc: moveIf,
  fcmovcc: floatMoveIf,
};

/** Whether a meaning may leave an instruction to microcode: `Context.microcodeIf`. */
export function hasMicrocode(mnemonic: string): boolean {
  return mnemonic in x87 || mnemonic in systemInstructions || mnemonic === "fcmovcc" || mnemonic === "cmpxchg16b";
}

/** The meaning of a decoder's form, or undefined when TypeScript plays it. */
export function meaningOf(mnemonic: string, condition: number): Meaning | undefined {
  return families[mnemonic]?.(condition) ?? meanings.get(mnemonic);
}
