/**
 * Delivery of exceptions and interrupts as today's 64-bit kernels have them: from 64-bit code of ring 0 or 3 through a
 * gate to flat 64-bit code of ring 0, where all tables and the stack are in the lookaside buffers. It faults never: where
 * anything is otherwise it changes nothing, and system/delivery.ts, which does these cases as well, has it. A test compares
 * the two.
 */

import { Cr4 } from "@lodge/kvm";
import { Mode, Seg, SegmentAttribute, State, Tlb } from "../../cpu/layout.ts";
import { Flag } from "../../cpu/state.ts";
import { entryOffset } from "../../mmu/lookaside-entry.ts";
import { SelectorBits } from "../../system/segment-registers.ts";
import { Tss64 } from "../../system/tss.ts";
import type { I32, I64, Local } from "../../wasm/expr.ts";
import { c32, c64, i32, i64, select } from "../../wasm/ops.ts";
import { type Context, Gpr } from "../context.ts";
import {
  bank,
  enterSupervisor,
  Flat,
  hasBits,
  notCanonical,
  rflags,
  segmentField,
  setFlat,
  setSegment,
} from "./state.ts";

const PAGE = 4096;

/** The upper half of a present 64-bit gate but for offset and stack: an interrupt gate, or with the last bit a trap gate. */
const GATE = { mask: 0x9e00, value: 0x8e00, trap: 0x0100 } as const;

/** All words of 32 or 64 bits. */
export interface Delivery {
  readonly vector: I32;
  /** The error code, or -1. */
  readonly error: I32;
  /** Where the handler returns to. */
  readonly returnRip: I64;
  /** Not 0: the image of RFLAGS has RF set. */
  readonly resume: I32;
}

/** Delivers an event; `State.rip` is the handler's address then. `refuse` leaves, as nothing has been changed. */
export function deliverQuickly(c: Context, event: Delivery, refuse: () => void): void {
  const { code } = c;
  const refuseIf = (condition: I32) => code.if(condition, refuse, undefined, false);
  const vector = c.let(event.vector);
  const error = c.let(event.error);
  const cpl = c.let(c.state32(State.cpl));
  const isUser = c.let(i32.eq(cpl, c32(3)));
  refuseIf(i32.ne(i32.and(c.state32(State.mode), c32(Mode.BITS)), c32(2)));
  refuseIf(i32.and(i32.ne(cpl, c32(0)), i32.eqz(isUser)));
  // The processor reads its tables as a supervisor without AC.
  const hasSmap = hasBits(c.state32(State.cr4), Number(Cr4.SMAP));
  const system = c.let(select(hasSmap, bank(c, Tlb.SUPERVISOR), bank(c, Tlb.SUPERVISOR_AC)));

  /** Where bytes within one page are in linear memory: they are refused when the lookaside buffer does not know. */
  const locate = (buffer: I32, table: number, address: I64, size: I32): Local<"i32"> => {
    const linear = c.let(address);
    const entry = c.let(i32.add(buffer, entryOffset(linear)));
    const distance = i64.xor(linear, i64.load(entry, table + Tlb.tag));
    refuseIf(i64.gt_u(distance, i64.extend_i32_u(i32.sub(c32(PAGE), size))));
    return code.let(i32.add(i32.wrap(linear), i32.load(entry, table + Tlb.addend)));
  };

  const gateAt = c.let(i32.shl(vector, c32(4)));
  refuseIf(i32.gt_u(i32.add(gateAt, c32(15)), c.state32(State.idtLimit)));
  const idtEntry = i64.add(c.state64(State.idtBase), i64.extend_i32_u(gateAt));
  const gate = locate(system, Tlb.read, idtEntry, c32(16));
  const gateLow = c.let(i32.load(gate));
  const gateHigh = c.let(i32.load(gate, 4));
  const offset = i32.or(i32.and(gateLow, c32(0xffff)), i32.and(gateHigh, c32(0xffff0000)));
  const target = c.let(i64.or(i64.extend_i32_u(offset), i64.shl(i64.load32_u(gate, 8), c64(32))));
  const isOther = i32.ne(i32.and(gateHigh, c32(GATE.mask)), c32(GATE.value));
  refuseIf(i32.or(isOther, notCanonical(target)));

  const selector = c.let(i32.shr_u(gateLow, c32(16)));
  const index = c.let(i32.and(selector, c32(SelectorBits.INDEX)));
  const isBeyond = i32.gt_u(i32.add(index, c32(7)), c.state32(State.gdtLimit));
  refuseIf(i32.or(hasBits(selector, SelectorBits.TABLE), i32.or(i32.eqz(index), isBeyond)));
  const gdtEntry = i64.add(c.state64(State.gdtBase), i64.extend_i32_u(index));
  const segment = locate(system, Tlb.read, gdtEntry, c32(8));
  refuseIf(i64.ne(i64.load(segment), c64(Flat.code(0).descriptor)));

  // The frame's end: in a stack of the TSS, or where RSP is.
  const stackNumber = c.let(i32.and(gateHigh, c32(7)));
  const end = code.let(c.gpr(Gpr.RSP, 8) as I64);
  code.if(i32.or(isUser, stackNumber), () => {
    const inInterruptStacks = i32.add(i32.shl(stackNumber, c32(3)), c32(Tss64.interruptStacks - 8));
    const field = c.let(select(stackNumber, inInterruptStacks, c32(Tss64.stacks)));
    refuseIf(i32.gt_u(i32.add(field, c32(7)), c.state32(segmentField(Seg.TR, "limit"))));
    const address = i64.add(c.state64(segmentField(Seg.TR, "base")), i64.extend_i32_u(field));
    code.set(end, i64.load(locate(system, Tlb.read, address, c32(8))));
    refuseIf(notCanonical(end));
  });
  // It begins at a multiple of 16 (6.14.2).
  const size = c.let(select(i32.lt_s(error, c32(0)), c32(40), c32(48)));
  const bottom = c.let(i64.sub(i64.and(end, c64(-16)), i64.extend_i32_u(size)));
  const frame = locate(select(isUser, system, c.state32(State.tlb)), Tlb.write, bottom, size);

  const flags = c.let(rflags(c));
  code.if(i32.ge_s(error, c32(0)), () => {
    code.store("i64", frame, 0, i64.extend_i32_u(error));
    code.set(frame, i32.add(frame, c32(8)));
  });
  const pushed: I64[] = [
    event.returnRip,
    i64.extend_i32_u(c.state32(segmentField(Seg.CS, "selector"))),
    i64.extend_i32_u(i32.or(flags, select(event.resume, c32(Flag.RF), c32(0)))),
    c.gpr(Gpr.RSP, 8) as I64,
    i64.extend_i32_u(c.state32(segmentField(Seg.SS, "selector"))),
  ];
  for (const [word, value] of pushed.entries()) code.store("i64", frame, word * 8, value);

  code.if(isUser, () => {
    setSegment(c, Seg.SS, c32(0), c64(0), c32(0), c32(SegmentAttribute.UNUSABLE));
    enterSupervisor(c);
  });
  setFlat(c, Seg.CS, index, Flat.code(0));
  c.setGpr(Gpr.RSP, 8, bottom);
  c.setState64(State.rip, target);
  const masked = select(hasBits(gateHigh, GATE.trap), c32(0), c32(Flag.IF));
  const cleared = i32.or(c32(Flag.TF | Flag.NT | Flag.RF | Flag.VM), masked);
  c.setFlagRest(i32.and(c.flagRest(), i32.xor(cleared, c32(-1))));
  c.setState32(State.interruptShadow, c32(0));
}
