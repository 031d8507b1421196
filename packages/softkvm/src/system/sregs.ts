/** Segments, tables and control registers as KVM has them. */

import { Cr0, Cr4, Efer, KvmError, type Segment, SREGS2_PDPTRS_VALID, type Sregs, type Sregs2 } from "@lodge/kvm";
import { Seg, SegmentAttribute, State } from "../cpu/layout.ts";
import { CR0_BITS, Cr0More } from "./features.ts";
import { derivePrivilege } from "./mode.ts";
import type { Processor } from "./processor.ts";
import { attributesOf, baseOf, limitOf, selectorOf, setSegment } from "./segment-registers.ts";

const { TYPE, S, DPL_SHIFT, PRESENT, AVL, LONG, DEFAULT_32, GRANULARITY, UNUSABLE } = SegmentAttribute;

const SEGMENTS = [
  ["es", Seg.ES],
  ["cs", Seg.CS],
  ["ss", Seg.SS],
  ["ds", Seg.DS],
  ["fs", Seg.FS],
  ["gs", Seg.GS],
  ["ldt", Seg.LDT],
  ["tr", Seg.TR],
] as const;
type SegmentName = (typeof SEGMENTS)[number][0];
type SystemRegisters = Omit<Sregs, "interruptBitmap">;

export function getSegment(cpu: Processor, segment: number): Segment {
  const attributes = attributesOf(cpu.state, segment);
  const has = (mask: number): 0 | 1 => (attributes & mask ? 1 : 0);
  return {
    base: baseOf(cpu.state, segment),
    limit: limitOf(cpu.state, segment),
    selector: selectorOf(cpu.state, segment),
    type: attributes & TYPE,
    // As KVM on Intel shows it: what is usable is present.
    present: has(UNUSABLE) === 1 ? 0 : 1,
    dpl: (attributes >>> DPL_SHIFT) & 3,
    db: has(DEFAULT_32),
    s: has(S),
    l: has(LONG),
    g: has(GRANULARITY),
    avl: has(AVL),
    unusable: has(UNUSABLE),
  };
}

export function putSegment(cpu: Processor, segment: number, value: Segment): void {
  const when = (condition: number, mask: number) => (condition ? mask : 0);
  const attributes =
    (value.type & TYPE) |
    when(value.s, S) |
    ((value.dpl & 3) << DPL_SHIFT) |
    when(value.present, PRESENT) |
    when(value.avl, AVL) |
    when(value.l, LONG) |
    when(value.db, DEFAULT_32) |
    when(value.g, GRANULARITY) |
    when(value.unusable || !value.present ? 1 : 0, UNUSABLE);
  setSegment(cpu.state, segment, value.selector, value.base, value.limit, attributes);
}

function getSystemRegisters(cpu: Processor): SystemRegisters {
  const { state, hooks } = cpu;
  const segments = Object.fromEntries(SEGMENTS.map(([name, segment]) => [name, getSegment(cpu, segment)]));
  return {
    ...(segments as Record<SegmentName, Segment>),
    gdt: { base: state.get64(State.gdtBase), limit: state.get32(State.gdtLimit) },
    idt: { base: state.get64(State.idtBase), limit: state.get32(State.idtLimit) },
    cr0: state.get64(State.cr0),
    cr2: state.get64(State.cr2),
    cr3: state.get64(State.cr3),
    cr4: state.get64(State.cr4),
    cr8: BigInt(hooks.readTpr()),
    efer: state.get64(State.efer),
    apicBase: hooks.readApicBase(),
  };
}

export function getSregs(cpu: Processor): Sregs {
  const interruptBitmap = [0n, 0n, 0n, 0n];
  const { interrupt, interruptSoft } = cpu.events;
  if (interrupt >= 0 && !interruptSoft) interruptBitmap[interrupt >> 6] = 1n << BigInt(interrupt & 63);
  return { ...getSystemRegisters(cpu), interruptBitmap };
}

export function getSregs2(cpu: Processor): Sregs2 {
  const pae = usesPae(cpu.state.get64(State.cr0), cpu.state.get64(State.cr4), cpu.state.get64(State.efer));
  return {
    ...getSystemRegisters(cpu),
    flags: pae ? SREGS2_PDPTRS_VALID : 0n,
    pdptrs: [0, 1, 2, 3].map((index) => (pae ? cpu.state.get64(State.pdpte + index * 8) : 0n)),
  };
}

export function setSregs(cpu: Processor, sregs: Sregs): void {
  putSystemRegisters(cpu, sregs);
  if (usesPae(sregs.cr0, sregs.cr4, sregs.efer)) readPdptes(cpu, sregs.cr3);
  cpu.events.interrupt = -1;
  cpu.events.interruptSoft = false;
  for (const [index, word] of sregs.interruptBitmap.entries()) {
    for (let bit = 0; bit < 64; bit++) {
      if ((word >> BigInt(bit)) & 1n) cpu.events.interrupt = index * 64 + bit;
    }
  }
}

export function setSregs2(cpu: Processor, sregs: Sregs2): void {
  if (sregs.flags & ~SREGS2_PDPTRS_VALID) throw impossible();
  const pae = usesPae(sregs.cr0, sregs.cr4, sregs.efer);
  const valid = (sregs.flags & SREGS2_PDPTRS_VALID) !== 0n;
  if (valid && !pae) throw impossible();
  putSystemRegisters(cpu, sregs);
  if (valid) for (const [index, entry] of sregs.pdptrs.entries()) cpu.state.set64(State.pdpte + index * 8, entry);
  else if (pae) readPdptes(cpu, sregs.cr3);
}

function putSystemRegisters(cpu: Processor, sregs: SystemRegisters): void {
  if (!isPossible(cpu, sregs)) throw impossible();
  const { state, hooks } = cpu;
  if (!hooks.writeApicBase(sregs.apicBase)) throw impossible();
  for (const [name, segment] of SEGMENTS) putSegment(cpu, segment, sregs[name]);
  state.set64(State.gdtBase, sregs.gdt.base);
  state.set32(State.gdtLimit, sregs.gdt.limit);
  state.set64(State.idtBase, sregs.idt.base);
  state.set32(State.idtLimit, sregs.idt.limit);
  state.set64(State.cr0, sregs.cr0 | Cr0.ET);
  state.set64(State.cr2, sregs.cr2);
  state.set64(State.cr3, sregs.cr3);
  state.set64(State.cr4, sregs.cr4);
  state.set64(State.efer, sregs.efer);
  hooks.writeTpr(Number(sregs.cr8 & 0xfn));
  derivePrivilege(state);
  cpu.flushAll();
  cpu.modeMayHaveChanged();
}

/** The kernel's kvm_is_valid_sregs, with what KVM_SET_SREGS checks of CR0 and CR4. */
function isPossible(cpu: Processor, { cr0, cr3, cr4, efer, cs }: SystemRegisters): boolean {
  const { features } = cpu;
  if (efer & Efer.LME && cr0 & Cr0.PG) {
    if (!(cr4 & Cr4.PAE) || !(efer & Efer.LMA)) return false;
    if (cr3 >> BigInt(features.physicalBits)) return false;
  } else if (efer & Efer.LMA || cs.l) return false;
  if (efer & ~(features.efer | Efer.LMA)) return false;
  if (cr0 & ~CR0_BITS) return false;
  if (cr0 & Cr0More.NW && !(cr0 & Cr0More.CD)) return false;
  if (cr0 & Cr0.PG && !(cr0 & Cr0.PE)) return false;
  return (cr4 & ~features.cr4) === 0n;
}

function impossible(): KvmError {
  return new KvmError("KVM_REQUEST_FAILED", "system registers: no processor of this model can be in this state");
}

/** PAE paging, whose four top entries are registers (Intel SDM vol. 3, 4.4.1). */
export function usesPae(cr0: bigint, cr4: bigint, efer: bigint): boolean {
  return (cr0 & Cr0.PG) !== 0n && (cr4 & Cr4.PAE) !== 0n && (efer & Efer.LMA) === 0n;
}

/** The PDPTEs at a CR3, read by physical address; those that nothing backs are not present. */
export function readPdptes(cpu: Processor, cr3: bigint): void {
  const entries = cpu.memory.readPhysical64(Number(cr3 & 0xffffffe0n), 4);
  for (let index = 0; index < 4; index++) cpu.state.set64(State.pdpte + index * 8, entries[index] ?? 0n);
}
