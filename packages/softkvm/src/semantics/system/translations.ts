/** INVLPG (Intel SDM vol. 2) in 64-bit code, where no more than entries of the lookaside buffers hang on the page. */

import { State, Tlb, Translated } from "../../cpu/layout.ts";
import { entryOffset } from "../../mmu/lookaside-entry.ts";
import type { I32 } from "../../wasm/expr.ts";
import { c32, c64, i32, i64 } from "../../wasm/ops.ts";
import type { Meaning } from "../context.ts";
import { isNotRing, notCanonical } from "./state.ts";

const invlpg: Meaning = (c) => {
  if (c.bits !== 64) return c.microcode();
  const linear = c.linearAddress(0, "read");
  const piece = (shift: number) => i32.and(i32.wrap(i64.shr_u(linear, c64(shift))), c32(Translated.entries - 1));
  const known = (at: number, shift: number): I32 =>
    i32.load8_u(i32.add(piece(shift), i32.add(c.stateAddress(), c32(at))));
  const more = i32.or(known(Translated.code, Translated.codeShift), known(Translated.large, Translated.largeShift));
  c.microcodeIf(i32.or(i32.or(isNotRing(c, 0), notCanonical(linear)), more));
  const page = c.let(i64.and(linear, c64(-4096)));
  const index = c.let(entryOffset(page));
  // The tag of an empty entry is of one that lies elsewhere.
  const tag = c.let(
    i32.or(i32.and(i32.xor(i32.wrap(page), c32(4096)), c32((Tlb.entries - 1) << 12)), c32(Tlb.EMPTY | Tlb.LISTED)),
  );
  for (let table = 0; table < Tlb.banks * 2; table++) {
    const entry = c.let(i32.add(i32.add(c.stateAddress(), c32(State.tlbs + table * Tlb.write)), index));
    c.code.if(i64.eq(i64.load(entry), page), () => c.code.store("i32", entry, 0, tag));
  }
};

export const translationInstructions: Record<string, Meaning> = { invlpg };
