/** What an instruction does in a region: its meaning and its shape. */

import type { Instruction } from "../decode/instruction.ts";
import { numberOf } from "../interpreter/known-shapes.ts";
import { CODE_LIMITS } from "../interpreter/limits.ts";
import { type Shape, shapeOf } from "../interpreter/shape.ts";
import type { Meaning } from "../semantics/context.ts";
import { meaningOf } from "../semantics/table.ts";

export interface KnownMeaning {
  readonly meaning: Meaning;
  readonly shape: Shape;
}

/** Describing a shape costs more than writing what it does. By the form's number, then by {@link numberOf}; null: undefined. */
const known: (Map<number, KnownMeaning | null> | undefined)[] = [];
let count = 0;

/** Undefined where TypeScript does it. */
export function meaningIn(instruction: Instruction, mode: number): KnownMeaning | undefined {
  const { id } = instruction.form;
  const number = numberOf(instruction, mode);
  let found = known[id]?.get(number);
  if (found === undefined) {
    // A guest can have millions.
    if (count >= CODE_LIMITS.shapes) {
      known.length = 0;
      count = 0;
    }
    found = describe(instruction, mode);
    known[id] ??= new Map();
    known[id].set(number, found);
    count += 1;
  }
  return found ?? undefined;
}

function describe(instruction: Instruction, mode: number): KnownMeaning | null {
  const { mnemonic, condition } = instruction.form;
  const meaning = meaningOf(mnemonic, condition);
  const shape = meaning && shapeOf(instruction, mode);
  return meaning === undefined || shape === undefined ? null : { meaning, shape };
}
