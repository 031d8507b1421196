/**
 * Delivery of exceptions and interrupts as today's 64-bit kernels have them: from 64-bit code of ring 0 or 3 through a
 * gate to flat 64-bit code of ring 0, where all tables and the stack are in the lookaside buffers. It allocates nothing
 * and faults never: where anything is otherwise it changes nothing, and delivery.ts, which does these cases as well, has
 * it. quick-delivery.test.ts compares the two.
 */

import { Mode, Seg, SegmentAttribute, SegmentField, State, Tlb } from "../cpu/layout.ts";
import { type CpuState, Flag } from "../cpu/state.ts";
import { cr4 } from "../mmu/paging.ts";
import { type LookasideBuffers, TlbTable } from "../mmu/tlb.ts";
import type { Processor } from "./processor.ts";
import { SelectorBits, selectorOf } from "./segment-registers.ts";
import { Tss64 } from "./tss.ts";

const HIGH = 2 ** 32;
const PAGE = 4096;
const RSP = 4;

/** The upper half of a present 64-bit gate but for offset and stack: an interrupt gate, or with the last bit a trap gate. */
const GATE = { mask: 0x9e00, value: 0x8e00, trap: 0x0100 } as const;
/** The descriptor of flat 64-bit code of ring 0 that was accessed (Intel SDM vol. 3, 3.4.5), and its attributes. */
const CODE = { low: 0xffff, high: 0x00af9b00, attributes: 0xa09b, limit: 0xffffffff } as const;

/**
 * Delivers an event to a handler that returns to the address in the field `returnRip` of the state. `error`: the error
 * code, or -1. `resume`: the image of RFLAGS has RF set. False when delivery.ts has to do it.
 */
export function deliverQuickly(
  cpu: Processor,
  vector: number,
  error: number,
  returnRip: number,
  resume: boolean,
): boolean {
  const { state } = cpu;
  const { tlb } = cpu.memory;
  const { view } = state;
  const mode = state.get32(State.mode);
  const cpl = state.get32(State.cpl);
  if ((mode & Mode.BITS) !== 2 || (cpl !== 0 && cpl !== 3)) return false;
  // The processor reads its tables as a supervisor without AC.
  const system = state.get32(State.cr4) & cr4.SMAP ? Tlb.SUPERVISOR : Tlb.SUPERVISOR_AC;

  // Addresses that are not canonical may come out inexact, and are in no lookaside buffer.
  if (vector * 16 + 15 > state.get32(State.idtLimit)) return false;
  const gate = locate(tlb, system, TlbTable.READ, state.number(State.idtBase) + vector * 16, 16);
  if (gate < 0) return false;
  const gateLow = view.getInt32(gate, true);
  const gateHigh = view.getInt32(gate + 4, true);
  const targetHigh = view.getInt32(gate + 8, true);
  if ((gateHigh & GATE.mask) !== GATE.value || !isCanonicalHigh(targetHigh)) return false;

  const selector = gateLow >>> 16;
  const index = selector & SelectorBits.INDEX;
  if (selector & SelectorBits.TABLE || index === 0 || index + 7 > state.get32(State.gdtLimit)) return false;
  const code = locate(tlb, system, TlbTable.READ, state.number(State.gdtBase) + index, 8);
  if (code < 0 || view.getInt32(code, true) !== CODE.low || view.getInt32(code + 4, true) !== CODE.high) return false;

  const stackNumber = gateHigh & 7;
  let pointer: number = state.base + State.gpr + RSP * 8;
  if (cpl === 3 || stackNumber !== 0) {
    const offset = stackNumber === 0 ? Tss64.stacks : Tss64.interruptStacks + (stackNumber - 1) * 8;
    const task = State.segments + Seg.TR * SegmentField.size;
    if (offset + 7 > state.get32(task + SegmentField.limit)) return false;
    pointer = locate(tlb, system, TlbTable.READ, state.number(task + SegmentField.base) + offset, 8);
    if (pointer < 0 || !isCanonicalHigh(view.getInt32(pointer + 4, true))) return false;
  }
  // The frame begins at a multiple of 16 (6.14.2).
  const top = view.getInt32(pointer + 4, true) * HIGH + ((view.getInt32(pointer, true) & ~15) >>> 0);
  const size = error < 0 ? 40 : 48;
  const bottom = top - size;
  let at = locate(tlb, cpl === 3 ? system : tlb.selected, TlbTable.WRITE, bottom, size);
  if (at < 0) return false;

  const flags = state.rflags;
  if (error >= 0) {
    setPair(view, at, error, 0);
    at += 8;
  }
  setPair(view, at, state.get32(returnRip), state.get32(returnRip + 4));
  setPair(view, at + 8, selectorOf(state, Seg.CS), 0);
  setPair(view, at + 16, resume ? flags | Flag.RF : flags, 0);
  setPair(view, at + 24, state.get32(State.gpr + RSP * 8), state.get32(State.gpr + RSP * 8 + 4));
  setPair(view, at + 32, selectorOf(state, Seg.SS), 0);

  if (cpl === 3) {
    setFlat(state, Seg.SS, 0, 0, SegmentAttribute.UNUSABLE);
    state.set32(State.cpl, 0);
    state.set32(State.mode, mode & ~Mode.USER);
    const open = system === Tlb.SUPERVISOR_AC || (flags & Flag.AC) !== 0;
    tlb.select(open ? Tlb.SUPERVISOR_AC : Tlb.SUPERVISOR);
  }
  setFlat(state, Seg.CS, index, CODE.limit, CODE.attributes);
  state.set32(State.gpr + RSP * 8, bottom);
  state.set32(State.gpr + RSP * 8 + 4, Math.floor(bottom / HIGH));
  state.set32(State.rip, (gateLow & 0xffff) | (gateHigh & 0xffff0000));
  state.set32(State.rip + 4, targetHigh);
  const masked = gateHigh & GATE.trap ? 0 : Flag.IF;
  state.set32(State.flagRest, state.get32(State.flagRest) & ~(Flag.TF | Flag.NT | Flag.RF | Flag.VM | masked));
  state.set32(State.interruptShadow, 0);
  return true;
}

/** Where bytes within one page are in linear memory, if the lookaside buffer knows that page; else -1. */
function locate(tlb: LookasideBuffers, bank: number, table: TlbTable, va: number, size: number): number {
  return (va & (PAGE - 1)) + size > PAGE ? -1 : tlb.lookup(bank, table, va);
}

/** Whether an address with this upper half is canonical. */
function isCanonicalHigh(high: number): boolean {
  const sign = high >> 15;
  return sign === 0 || sign === -1;
}

function setPair(view: DataView, at: number, low: number, high: number): void {
  view.setInt32(at, low, true);
  view.setInt32(at + 4, high, true);
}

/** A segment register with a base of 0. */
function setFlat(state: CpuState, segment: number, selector: number, limit: number, attributes: number): void {
  const at = State.segments + segment * SegmentField.size;
  state.set32(at + SegmentField.base, 0);
  state.set32(at + SegmentField.base + 4, 0);
  state.set32(at + SegmentField.limit, limit);
  state.set32(at + SegmentField.selector, selector);
  state.set32(at + SegmentField.attributes, attributes);
}
