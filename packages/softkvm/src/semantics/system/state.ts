/** What the meanings of system instructions read and write of the processor's state. */

import { Cr4 } from "@lodge/kvm";
import { Mode, SegmentAttribute, SegmentField, State, Tlb } from "../../cpu/layout.ts";
import { CpuState, Flag } from "../../cpu/state.ts";
import type { I32, I64 } from "../../wasm/expr.ts";
import { c32, c64, i32, i64, select } from "../../wasm/ops.ts";
import type { Context } from "../context.ts";
import { arithmeticFlags, setArithmeticFlags } from "../flags.ts";

/** A field of a segment register. */
export function segmentField(segment: number, field: Exclude<keyof typeof SegmentField, "size">): number {
  return State.segments + segment * SegmentField.size + SegmentField[field];
}

/** Code and data segments that reach everything, as descriptors and as `SegmentField.attributes` has them. */
export const Flat = {
  limit: 0xffffffff,
  /** 64-bit code that was accessed, of ring 0 and ring 3. */
  code: (ring: 0 | 3) => descriptor(0xa09b, ring),
  /** Writable data that was accessed, with 32-bit stack pointers. */
  data: (ring: 0 | 3) => descriptor(0xc093, ring),
} as const;

interface FlatSegment {
  readonly descriptor: bigint;
  readonly attributes: number;
}

function descriptor(attributesOfRing0: number, ring: number): FlatSegment {
  const attributes = attributesOfRing0 | (ring << SegmentAttribute.DPL_SHIFT);
  return { attributes, descriptor: (BigInt(attributes | 0x0f00) << 40n) | 0xffffn };
}

/** Loads a segment register. */
export function setSegment(c: Context, segment: number, selector: I32, base: I64, limit: I32, attributes: I32): void {
  c.setState64(segmentField(segment, "base"), base);
  c.setState32(segmentField(segment, "limit"), limit);
  c.setState32(segmentField(segment, "selector"), selector);
  c.setState32(segmentField(segment, "attributes"), attributes);
}

export function setFlat(c: Context, segment: number, selector: I32, { attributes }: FlatSegment): void {
  setSegment(c, segment, selector, c64(0), c32(Flat.limit), c32(attributes));
}

export function hasBits(value: I32, bits: number): I32 {
  return i32.ne(i32.and(value, c32(bits)), c32(0));
}

/** Whether the current privilege level is another one. */
export function isNotRing(c: Context, ring: number): I32 {
  return i32.ne(c.state32(State.cpl), c32(ring));
}

/** Whether an address is not canonical (Intel SDM vol. 1, 3.3.7.1). `address` is evaluated twice. */
export function notCanonical(address: I64): I32 {
  return i64.ne(i64.shr_s(i64.shl(address, c64(16)), c64(16)), address);
}

/** RFLAGS as the guest sees it. */
export function rflags(c: Context): I32 {
  return i32.or(i32.or(arithmeticFlags(c), c.flagRest()), c32(Flag.ONE));
}

/** Sets all of RFLAGS. */
export function setRflags(c: Context, flags: I32): void {
  const now = c.let(flags);
  setArithmeticFlags(c, now);
  c.setFlagRest(i32.and(now, c32(CpuState.rest)));
}

/**
 * Whether flags that are about to replace `old` need TypeScript: they let an interrupt through that waits, or ask for a
 * trap after the next instruction.
 */
export function needAttention(c: Context, old: I32, flags: I32): I32 {
  const opens = hasBits(i32.and(flags, i32.xor(old, c32(-1))), Flag.IF);
  return i32.or(i32.and(opens, c.state32(State.eventWaits)), hasBits(flags, Flag.TF));
}

/** The address of a bank of lookaside buffers. */
export function bank(c: Context, number: number): I32 {
  return i32.add(c.stateAddress(), c32(State.tlbs + number * Tlb.bankSize));
}

/** Ring 0, where AC opens the user's pages under SMAP. */
export function enterSupervisor(c: Context): void {
  c.setState32(State.cpl, c32(0));
  c.setState32(State.mode, i32.and(c.state32(State.mode), c32(~Mode.USER)));
  const isClosed = i32.and(
    hasBits(c.state32(State.cr4), Number(Cr4.SMAP)),
    i32.eqz(i32.and(c.flagRest(), c32(Flag.AC))),
  );
  c.selectBank(select(isClosed, bank(c, Tlb.SUPERVISOR), bank(c, Tlb.SUPERVISOR_AC)));
}
