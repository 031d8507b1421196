/**
 * What compiled code and the decoder depend on, derived from the control registers, RFLAGS and segments: `State.mode`,
 * the segments' bases and ranges, and the bank of lookaside buffers. To be called whenever one of those has changed.
 */

import { Cr0, Cr4, Efer } from "@lodge/kvm";
import { Mode, Seg, SegmentAttribute, SegmentField, SegmentRange, State, Tlb, Vector } from "../cpu/layout.ts";
import { type CpuState, Flag } from "../cpu/state.ts";
import type { LookasideBuffers } from "../mmu/tlb.ts";
import { Xcr0 } from "./features.ts";
import { attributesOf, SegmentType } from "./segment-registers.ts";

const PE = Number(Cr0.PE);
/** CR0.EM and TS (Intel SDM vol. 3, 2.5). */
const EM = 1 << 2;
const TS = 1 << 3;
const OSFXSR = Number(Cr4.OSFXSR);
const OSXSAVE = Number(Cr4.OSXSAVE);
const AVX_STATE = Number(Xcr0.SSE | Xcr0.AVX);
const SMAP = Number(Cr4.SMAP);
const LMA = Number(Efer.LMA);
const DATA_SEGMENTS = 6;
const ALL = 0xffffffff;

/** Sets the mode anew. Returns whether `State.mode` changed. */
export function updateMode(state: CpuState, tlb: LookasideBuffers): boolean {
  const flags = state.get32(State.flagRest);
  const cr0 = state.get32(State.cr0);
  const cr4 = state.get32(State.cr4);
  const long = (state.get32(State.efer) & LMA) !== 0;
  const isProtected = (cr0 & PE) !== 0;
  const vm86 = isProtected && (flags & Flag.VM) !== 0;
  const code = attributesOf(state, Seg.CS);
  const user = state.cpl === 3;

  let mode = 0;
  if (long && code & SegmentAttribute.LONG) mode = 2;
  else if (code & SegmentAttribute.DEFAULT_32 && !vm86) mode = 1;
  const is64Bit = mode === 2;
  if (!is64Bit && attributesOf(state, Seg.SS) & SegmentAttribute.DEFAULT_32 && !vm86) mode |= Mode.STACK_32;
  if (user) mode |= Mode.USER;
  if (vm86) mode |= Mode.VM86;
  if (isProtected) mode |= Mode.PROTECTED;
  if (cr0 & (EM | TS)) mode |= Mode.NO_FPU;
  if ((cr4 & OSFXSR) === 0) mode |= Mode.NO_SSE;
  if ((cr4 & OSXSAVE) === 0 || (state.get32(State.xcr0) & AVX_STATE) !== AVX_STATE) mode |= Mode.NO_AVX;
  if (long) mode |= Mode.LONG;
  if ((cr4 & SMAP) === 0) mode |= Mode.NO_SMAP;

  if (is64Bit) {
    mode |= Mode.FLAT;
    for (let segment = 0; segment < Seg.FS; segment++) state.set64(State.segmentBase + segment * 8, 0n);
    for (let segment = Seg.FS as number; segment <= Seg.GS; segment++) copyBase(state, segment);
  } else {
    let flat = true;
    for (let segment = 0; segment < DATA_SEGMENTS; segment++) {
      copyBase(state, segment);
      const everything = setRange(state, segment, isProtected && !vm86);
      if (segment < Seg.FS && !everything) flat = false;
    }
    if (flat) mode |= Mode.FLAT;
  }

  const open = (cr4 & SMAP) === 0 || (flags & Flag.AC) !== 0;
  tlb.select(user ? Tlb.USER : open ? Tlb.SUPERVISOR_AC : Tlb.SUPERVISOR);

  if (state.get32(State.mode) === mode) return false;
  state.set32(State.mode, mode);
  return true;
}

/**
 * The privilege level that a set of registers stands for: SS's, as virtualization keeps it (Intel SDM vol. 3, 25.4.1).
 * For state that comes from outside; instructions set the level themselves.
 */
export function derivePrivilege(state: CpuState): void {
  const isProtected = (state.get32(State.cr0) & PE) !== 0;
  const vm86 = isProtected && (state.get32(State.flagRest) & Flag.VM) !== 0;
  const stack = (attributesOf(state, Seg.SS) >>> SegmentAttribute.DPL_SHIFT) & 3;
  state.set32(State.cpl, !isProtected ? 0 : vm86 ? 3 : stack);
}

/** Records the fault of an access beyond a segment's range. */
export function segmentFault(state: CpuState, segment: number): void {
  state.raise(segment === Seg.SS ? Vector.SS : Vector.GP, 0);
}

function copyBase(state: CpuState, segment: number): void {
  const base = State.segments + segment * SegmentField.size + SegmentField.base;
  const to = State.segmentBase + segment * 8;
  state.set32(to, state.get32(base));
  state.set32(to + 4, state.get32(base + 4));
}

/** The offsets that a segment allows (Intel SDM vol. 3, 5.3 and 5.5). Returns whether it is all of memory from 0. */
function setRange(state: CpuState, segment: number, checkType: boolean): boolean {
  const descriptor = State.segments + segment * SegmentField.size;
  const attributes = state.get32(descriptor + SegmentField.attributes);
  const limit = state.get32(descriptor + SegmentField.limit);
  const code = (attributes & SegmentType.CODE) !== 0;
  let first = 0;
  let last = limit;
  if (!code && attributes & SegmentType.EXPAND_DOWN) {
    first = limit + 1;
    last = attributes & SegmentAttribute.DEFAULT_32 ? ALL : 0xffff;
    // Nothing lies above the highest limit.
    if (first > ALL) {
      first = ALL;
      last = 0;
    }
  }
  let readable = true;
  let writable = true;
  if (checkType) {
    if (attributes & SegmentAttribute.UNUSABLE) readable = writable = false;
    else if (code) {
      readable = (attributes & SegmentType.READABLE) !== 0;
      writable = false;
    } else writable = (attributes & SegmentType.WRITABLE) !== 0;
  }
  const range = State.segmentRanges + segment * SegmentRange.size;
  state.set32(range + SegmentRange.readFirst, readable ? first : ALL);
  state.set32(range + SegmentRange.readLast, readable ? last : 0);
  state.set32(range + SegmentRange.writeFirst, writable ? first : ALL);
  state.set32(range + SegmentRange.writeLast, writable ? last : 0);
  return (
    state.get64(descriptor + SegmentField.base) === 0n &&
    first === 0 &&
    last === ALL &&
    readable &&
    (writable || segment === Seg.CS)
  );
}
