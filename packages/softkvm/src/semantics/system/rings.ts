/**
 * SYSCALL, SYSRET and IRET as the kernels of today's systems use them: between 64-bit code of rings 0 and 3, by segments
 * that reach everything. Whatever is otherwise is microcode's (system/system-calls.ts, system/iret.ts), which does these
 * cases as well; a test compares the two.
 */

import { Efer } from "@lodge/kvm";
import { Mode, Seg, SegmentAttribute, State, Tlb } from "../../cpu/layout.ts";
import { CpuState, Flag } from "../../cpu/state.ts";
import { SelectorBits } from "../../system/segment-registers.ts";
import type { I32, I64, Local } from "../../wasm/expr.ts";
import { c32, c64, i32, i64, select } from "../../wasm/ops.ts";
import { type Context, Gpr, type Meaning } from "../context.ts";
import {
  bank,
  enterSupervisor,
  Flat,
  hasBits,
  isNotRing,
  needAttention,
  notCanonical,
  rflags,
  segmentField,
  setFlat,
  setRflags,
  setSegment,
} from "./state.ts";

const R11 = 11;
/** What SYSRET takes of R11 (Intel SDM vol. 2): not RF, VM and the reserved bits. */
const SYSRET_FLAGS = 0x3c7fd7;

/** Ring 3 from now on: `Mode` of 64-bit code and the bank of lookaside buffers follow. */
function enterUser(c: Context): void {
  c.setState32(State.cpl, c32(3));
  c.setState32(State.mode, i32.or(c.state32(State.mode), c32(Mode.USER)));
  c.selectBank(bank(c, Tlb.USER));
}

function lacksSyscall(c: Context): I32 {
  return i32.eqz(i32.and(c.state32(State.efer), c32(Number(Efer.SCE))));
}

const syscall: Meaning = (c) => {
  if (c.bits !== 64) return c.microcode();
  c.microcodeIf(lacksSyscall(c));
  const old = c.let(rflags(c));
  const selector = c.let(i32.and(c.state32(State.star + 4), c32(0xfffc)));
  c.setGpr(Gpr.RCX, 8, c.nextRip());
  c.setGpr(R11, 8, i64.extend_i32_u(i32.and(old, c32(~Flag.RF))));
  setFlat(c, Seg.CS, selector, Flat.code(0));
  setFlat(c, Seg.SS, i32.add(selector, c32(8)), Flat.data(0));
  setRflags(c, i32.and(old, i32.xor(i32.or(c.state32(State.sfmask), c32(Flag.RF)), c32(-1))));
  enterSupervisor(c);
  c.jump(c.state64(State.lstar));
};

const sysret: Meaning = (c) => {
  if (c.bits !== 64 || c.operandSize !== 8) return c.microcode();
  const target = c.let(c.gpr(Gpr.RCX, 8) as I64);
  const flags = c.let(i32.and(i32.wrap(c.gpr(R11, 8) as I64), c32(SYSRET_FLAGS)));
  const refused = i32.or(i32.or(lacksSyscall(c), isNotRing(c, 0)), notCanonical(target));
  c.microcodeIf(i32.or(refused, needAttention(c, c.flagRest(), flags)));
  const selector = c.let(i32.shr_u(c.state32(State.star + 4), c32(16)));
  const userSelector = (offset: number) =>
    i32.or(i32.add(i32.or(selector, c32(SelectorBits.RPL)), c32(offset)), c32(SelectorBits.RPL));
  setFlat(c, Seg.CS, userSelector(16), Flat.code(3));
  setFlat(c, Seg.SS, userSelector(8), Flat.data(3));
  setRflags(c, flags);
  enterUser(c);
  c.jump(target);
};

/** The descriptor of a selector that is in the GDT and not null; `microcodeIf` for any other. */
function readDescriptor(c: Context, selector: I32): I64 {
  const index = c.let(i32.and(selector, c32(SelectorBits.INDEX)));
  const beyond = i32.gt_u(i32.add(index, c32(7)), c.state32(State.gdtLimit));
  c.microcodeIf(i32.or(i32.or(beyond, i32.eqz(index)), hasBits(selector, SelectorBits.TABLE)));
  const address = c.let(i64.add(c.state64(State.gdtBase), i64.extend_i32_u(index)));
  return c.let(c.load(8, address as Local<"i64">) as I64);
}

/** Whether one of the data segments would be taken away from ring 3. */
function keepsInnerSegment(c: Context): I32 {
  return [Seg.ES, Seg.DS, Seg.FS, Seg.GS]
    .map((segment) => {
      const attributes = c.state32(segmentField(segment, "attributes"));
      const ring3 = 3 << SegmentAttribute.DPL_SHIFT;
      const all = i32.and(attributes, c32(ring3 | SegmentAttribute.UNUSABLE));
      // Unsigned: above ring 3 it is unusable, below it a segment of an inner ring.
      return i32.lt_u(all, c32(ring3));
    })
    .reduce((any, one) => i32.or(any, one));
}

const iret: Meaning = (c) => {
  if (c.bits !== 64 || c.operandSize !== 8) return c.microcode();
  const old = c.let(c.flagRest());
  // With AC the tables, which are read as the supervisor's without it, could be seen otherwise.
  const unusual = i32.or(isNotRing(c, 0), hasBits(old, Flag.NT | Flag.AC));
  c.microcodeIf(i32.or(unusual, c.state32(State.nmiMasked)));
  const stack = c.let(c.gpr(Gpr.RSP, 8) as I64);
  const word = (index: number) => c.let(c.load(8, c.linear(Seg.SS, i64.add(stack, c64(index * 8)), 8, "read")) as I64);
  const target = word(0);
  const codeSelector = c.let(i32.and(i32.wrap(word(1)), c32(0xffff)));
  const flags = c.let(i32.and(i32.wrap(word(2)), c32((CpuState.arithmetic | CpuState.rest) & ~Flag.VM)));
  const ring = c.let(i32.and(codeSelector, c32(SelectorBits.RPL)));
  const toUser = c.let(i32.eq(ring, c32(3)));
  const code = readDescriptor(c, codeSelector);
  const expected = select(toUser, c64(Flat.code(3).descriptor), c64(Flat.code(0).descriptor));
  const isOther = i32.or(i64.ne(code, expected), hasBits(i32.add(ring, c32(1)), 2));
  const changes = i32.or(needAttention(c, old, flags), i32.and(i32.eqz(toUser), hasBits(flags, Flag.AC)));
  c.microcodeIf(i32.or(i32.or(isOther, changes), notCanonical(target)));
  c.microcodeIf(i32.and(toUser, keepsInnerSegment(c)));

  const pointer = word(3);
  const stackSelector = c.let(i32.and(i32.wrap(word(4)), c32(0xffff)));
  const loadStack = (): void => {
    const data = readDescriptor(c, stackSelector);
    const wanted = select(toUser, c64(Flat.data(3).descriptor), c64(Flat.data(0).descriptor));
    c.microcodeIf(i32.or(i64.ne(data, wanted), i32.ne(i32.and(stackSelector, c32(SelectorBits.RPL)), ring)));
    const attributes = select(toUser, c32(Flat.data(3).attributes), c32(Flat.data(0).attributes));
    setSegment(c, Seg.SS, stackSelector, c64(0), c32(Flat.limit), attributes);
  };
  // An interrupt of ring 3 has left none to ring 0, and one that comes then returns to none.
  c.code.if(i32.or(toUser, stackSelector), loadStack, () =>
    setSegment(c, Seg.SS, c32(0), c64(0), c32(0), c32(SegmentAttribute.UNUSABLE)),
  );
  c.setGpr(Gpr.RSP, 8, pointer);
  const attributes = select(toUser, c32(Flat.code(3).attributes), c32(Flat.code(0).attributes));
  setSegment(c, Seg.CS, codeSelector, c64(0), c32(Flat.limit), attributes);
  setRflags(c, flags);
  c.code.if(toUser, () => enterUser(c));
  c.jump(target);
};

export const ringInstructions: Record<string, Meaning> = { syscall, sysret, iret };
