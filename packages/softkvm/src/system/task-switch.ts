/** Hardware task switches (Intel SDM vol. 3, 7.3), for 32-bit and 16-bit task-state segments. */

import { Cr0 } from "@lodge/kvm";
import { Seg, State, Vector } from "../cpu/layout.ts";
import { Flag } from "../cpu/state.ts";
import { AccessKind } from "../mmu/access.ts";
import { loadCr3 } from "./control-registers.ts";
import {
  isNull,
  type Located,
  markAccessed,
  markAvailable,
  markBusy,
  readDescriptor,
  selectorError,
} from "./descriptors.ts";
import { Cr0More } from "./features.ts";
import type { Processor } from "./processor.ts";
import {
  baseOf,
  limitOf,
  SelectorBits,
  SystemType,
  selectorOf,
  setFromDescriptor,
  setNull,
  setSelector,
  setVirtual8086,
} from "./segment-registers.ts";
import { checkData, checkStack, planLdt } from "./segments.ts";
import { Stack } from "./stack.ts";
import { Tss16, Tss32, tssIs32 } from "./tss.ts";

/** What leads to the new task. CALL and gates nest it; JMP and IRET leave the old one. */
export type TaskSwitchReason = "jmp" | "call" | "gate" | "iret";

const SEGMENT_ORDER = [Seg.ES, Seg.CS, Seg.SS, Seg.DS, Seg.FS, Seg.GS] as const;

/** The part of a task that its TSS holds. */
interface TaskImage {
  eip: number;
  eflags: number;
  registers: number[];
  selectors: number[];
  ldt: number;
  cr3: number;
  trap: boolean;
}

/**
 * Switches to the task of a TSS selector. Faults up to the switch belong to the old task; those in loading the new
 * one's segments belong to the new task, which is then the current one. `error`: what the event pushes there.
 */
export function switchTask(cpu: Processor, selector: number, reason: TaskSwitchReason, error?: number): void {
  const { state } = cpu;
  const vector = reason === "iret" ? Vector.TS : Vector.GP;
  const refuse = (fault: number = vector): never => cpu.fault(fault, selectorError(cpu, selector));
  if (isNull(selector) || selector & SelectorBits.TABLE) refuse();
  const descriptor = readDescriptor(cpu, selector, vector);
  const busy = reason === "iret" ? SystemType.BUSY : 0;
  const wide = descriptor.type === (SystemType.TSS_32 | busy);
  if (descriptor.isSegment || (!wide && descriptor.type !== (SystemType.TSS_16 | busy))) refuse();
  if (!descriptor.present) refuse(Vector.NP);
  const layout = wide ? Tss32 : Tss16;
  if (descriptor.limit < layout.limit) refuse(Vector.TS);

  const oldSelector = selectorOf(state, Seg.TR);
  const oldWide = tssIs32(cpu);
  const oldLayout = oldWide ? Tss32 : Tss16;
  const oldBase = cpu.tableAddress(baseOf(state, Seg.TR), 0);
  if (limitOf(state, Seg.TR) < oldLayout.limit) cpu.fault(Vector.TS, selectorError(cpu, oldSelector));
  const newBase = cpu.tableAddress(descriptor.base, 0);
  // Both are checked whole before the first write.
  cpu.probe(oldBase, oldLayout.limit + 1, AccessKind.IMPLICIT | AccessKind.WRITE);
  cpu.probe(newBase, layout.limit + 1, AccessKind.IMPLICIT | AccessKind.WRITE);

  const leaves = reason === "jmp" || reason === "iret";
  const image = wide ? readTask32(cpu, newBase) : readTask16(cpu, newBase);
  saveTask(cpu, oldBase, oldWide, reason === "iret");
  if (leaves) markAvailable(cpu, oldSelector);
  if (!leaves) {
    cpu.write(newBase + layout.link, 2, oldSelector, AccessKind.IMPLICIT);
    image.eflags |= Flag.NT;
  }
  if (reason !== "iret") markBusy(cpu, descriptor);

  // From here on the new task is the current one.
  setFromDescriptor(state, Seg.TR, selector, descriptor);
  state.set64(State.cr0, state.get64(State.cr0) | Cr0More.TS);
  loadTask(cpu, image, wide);
  if (error !== undefined) {
    const stack = new Stack(cpu);
    stack.push(wide ? 4 : 2, BigInt(error));
    stack.commit();
  }
  if (image.trap) cpu.events.exception = { vector: Vector.DB, error: undefined, payload: TASK_SWITCH, soft: false };
}

/** DR6.BT: the debug exception came from a task switch. */
const TASK_SWITCH = 1n << 15n;

function readTask32(cpu: Processor, base: number): TaskImage {
  const word = (offset: number) => cpu.readSystem(base + offset, 4);
  return {
    eip: word(Tss32.eip),
    eflags: word(Tss32.eflags),
    registers: Array.from({ length: 8 }, (_, index) => word(Tss32.registers + index * 4)),
    selectors: Array.from({ length: 6 }, (_, index) => word(Tss32.segments + index * 4) & 0xffff),
    ldt: word(Tss32.ldt) & 0xffff,
    cr3: word(Tss32.cr3),
    trap: (word(Tss32.trap) & 1) !== 0,
  };
}

/** 16-bit tasks have neither FS nor GS; the upper halves of their registers are undefined, here ones as on the 386. */
function readTask16(cpu: Processor, base: number): TaskImage {
  const word = (offset: number) => cpu.readSystem(base + offset, 2);
  return {
    eip: word(Tss16.ip),
    eflags: word(Tss16.flags),
    registers: Array.from({ length: 8 }, (_, index) => (0xffff0000 | word(Tss16.registers + index * 2)) >>> 0),
    selectors: [...Array.from({ length: 4 }, (_, index) => word(Tss16.segments + index * 2)), 0, 0],
    ldt: word(Tss16.ldt),
    cr3: 0,
    trap: false,
  };
}

function saveTask(cpu: Processor, base: number, wide: boolean, clearNested: boolean): void {
  const { state } = cpu;
  const size = wide ? 4 : 2;
  const layout = wide
    ? { ip: Tss32.eip, flags: Tss32.eflags, registers: Tss32.registers, segments: Tss32.segments, count: 6 }
    : { ip: Tss16.ip, flags: Tss16.flags, registers: Tss16.registers, segments: Tss16.segments, count: 4 };
  const put = (offset: number, value: number) => cpu.write(base + offset, size, value, AccessKind.IMPLICIT);
  put(layout.ip, Number(cpu.rip & 0xffffffffn));
  put(layout.flags, clearNested ? state.rflags & ~Flag.NT : state.rflags);
  for (let index = 0; index < 8; index++) {
    put(layout.registers + index * size, Number(state.gpr(index) & 0xffffffffn));
  }
  for (let index = 0; index < layout.count; index++) {
    // Only the selector's half of each slot is written.
    cpu.write(base + layout.segments + index * size, 2, selectorOf(state, SEGMENT_ORDER[index]!), AccessKind.IMPLICIT);
  }
}

function loadTask(cpu: Processor, image: TaskImage, wide: boolean): void {
  const { state } = cpu;
  if (wide && state.get64(State.cr0) & Cr0.PG) loadCr3(cpu, BigInt(image.cr3), Vector.TS);
  const eflags = wide ? image.eflags : (state.rflags & 0xffff0000) | image.eflags;
  state.rflags = eflags;
  for (let index = 0; index < 8; index++) state.setGpr(index, BigInt(image.registers[index]!));
  cpu.rip = BigInt(image.eip >>> 0);
  cpu.instructionRip = cpu.rip;
  // Selectors first, so that a fault in any of them shows all; what was not loaded is unusable.
  for (const [index, segment] of SEGMENT_ORDER.entries()) {
    const selector = image.selectors[index]!;
    if (eflags & Flag.VM && wide) setVirtual8086(state, segment, selector);
    else if (segment === Seg.CS) setSelector(state, segment, selector);
    else setNull(state, segment, selector);
  }
  const level = eflags & Flag.VM && wide ? 3 : image.selectors[Seg.CS]! & SelectorBits.RPL;
  cpu.cpl = level;
  setSelector(state, Seg.LDT, image.ldt);
  planLdt(cpu, image.ldt, Vector.TS).commit();
  if (!(eflags & Flag.VM && wide)) loadSegments(cpu, image.selectors, level);
  cpu.modeMayHaveChanged();
}

function loadSegments(cpu: Processor, selectors: readonly number[], level: number): void {
  const { state } = cpu;
  const load = (segment: number, check: (selector: number, descriptor: Located) => void) => {
    const selector = selectors[segment]!;
    const descriptor = readDescriptor(cpu, selector, Vector.TS);
    check(selector, descriptor);
    markAccessed(cpu, descriptor);
    setFromDescriptor(state, segment, selector, descriptor);
  };
  const refuse = (selector: number): never => cpu.fault(Vector.TS, selectorError(cpu, selector));
  const cs = selectors[Seg.CS]!;
  if (isNull(cs)) refuse(cs);
  load(Seg.CS, (selector, code) => {
    const rpl = selector & SelectorBits.RPL;
    if (!code.isCode || (code.isConforming ? code.dpl > rpl : code.dpl !== rpl)) refuse(selector);
    if (!code.present) cpu.fault(Vector.NP, selectorError(cpu, selector));
  });
  const ss = selectors[Seg.SS]!;
  if (isNull(ss)) refuse(ss);
  load(Seg.SS, (selector, descriptor) => checkStack(cpu, selector, descriptor, level, Vector.TS));
  for (const segment of [Seg.ES, Seg.DS, Seg.FS, Seg.GS]) {
    if (isNull(selectors[segment]!)) continue;
    load(segment, (selector, descriptor) => checkData(cpu, selector, descriptor, level, Vector.TS));
  }
}
