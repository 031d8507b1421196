/** Reads of control and segment registers, SWAPGS, RDFSBASE and its companions (Intel SDM vol. 2). */

import { Cr4 } from "@lodge/kvm";
import { Seg, State } from "../../cpu/layout.ts";
import { c32, i32, i64 } from "../../wasm/ops.ts";
import type { Context, IntegerSize, Meaning } from "../context.ts";
import { fromI64, zeroExtend } from "../words.ts";
import { isNotRing, notCanonical, segmentField } from "./state.ts";

/** CR8 is the interrupt controller's. */
const CONTROL_REGISTERS: Readonly<Record<number, number>> = {
  0: State.cr0,
  2: State.cr2,
  3: State.cr3,
  4: State.cr4,
};

const sizeOf = (c: Context, index: number) => c.operands[index]!.size as IntegerSize;
const baseOf = (segment: number) => State.segmentBase + segment * 8;

function readBase(segment: number): Meaning {
  return (c) => {
    c.microcodeIf(lacksBases(c));
    c.write(0, fromI64(sizeOf(c, 0), c.state64(segmentField(segment, "base"))));
  };
}

function writeBase(segment: number): Meaning {
  return (c) => {
    const value = c.let(zeroExtend(sizeOf(c, 0), c.read(0)));
    c.microcodeIf(i32.or(lacksBases(c), notCanonical(value)));
    c.setState64(segmentField(segment, "base"), value);
    c.setState64(baseOf(segment), value);
  };
}

function lacksBases(c: Context) {
  return c.bits === 64 ? i32.eqz(i32.and(c.state32(State.cr4), c32(Number(Cr4.FSGSBASE)))) : c32(1);
}

export const registerInstructions: Record<string, Meaning> = {
  "mov.from-cr": (c) => {
    const field = CONTROL_REGISTERS[c.immediate(1)];
    if (field === undefined) return c.microcode();
    c.microcodeIf(isNotRing(c, 0));
    c.write(0, fromI64(sizeOf(c, 0), c.state64(field)));
  },
  "mov.from-sreg": (c) => {
    const segment = c.immediate(1);
    if (segment > Seg.GS) return c.microcode();
    const selector = i64.extend_i32_u(c.state32(segmentField(segment, "selector")));
    c.write(0, fromI64(sizeOf(c, 0), selector));
  },
  swapgs: (c) => {
    if (c.bits !== 64) return c.microcode();
    c.microcodeIf(isNotRing(c, 0));
    const base = c.let(c.state64(segmentField(Seg.GS, "base")));
    const other = c.let(c.state64(State.kernelGsBase));
    c.setState64(segmentField(Seg.GS, "base"), other);
    c.setState64(baseOf(Seg.GS), other);
    c.setState64(State.kernelGsBase, base);
  },
  rdfsbase: readBase(Seg.FS),
  rdgsbase: readBase(Seg.GS),
  wrfsbase: writeBase(Seg.FS),
  wrgsbase: writeBase(Seg.GS),
};
