/** Writes to control registers and EFER, with their checks and effects (Intel SDM vol. 3, 2.5, 4.1 and 9.8). */

import { Cr0, Cr4, Efer } from "@lodge/kvm";
import { Seg, SegmentAttribute, State, Vector } from "../cpu/layout.ts";
import { CR0_BITS, Cr0More } from "./features.ts";
import type { Processor } from "./processor.ts";
import { attributesOf } from "./segment-registers.ts";
import { readPdptes, usesPae } from "./sregs.ts";

/** Changes of CR0 and CR4 after which PAE paging reads its PDPTEs again (4.4.1). */
const CR0_PDPTE_BITS = Cr0.PG | Cr0More.CD | Cr0More.NW;
const CR4_PDPTE_BITS = Cr4.PAE | Cr4.PGE | Cr4.PSE | Cr4.SMEP;
/** Changes of CR4 that invalidate translations (4.10.4.1), and SMAP. */
const CR4_FLUSH_BITS = Cr4.PAE | Cr4.PGE | Cr4.PSE | Cr4.SMEP | Cr4.SMAP | Cr4.PCIDE;

/** With CR4.PCIDE, bit 63 of what is written to CR3 asks to keep the new PCID's translations. */
const CR3_NO_FLUSH = 1n << 63n;
const PCID = 0xfffn;

/** The reserved bits of a PDPTE below the address (4.4.1). */
const PDPTE_RESERVED = 0x1e6n;

export function writeCr0(cpu: Processor, value: bigint): void {
  const { state } = cpu;
  if (value >> 32n) cpu.generalProtection();
  const next = (value & CR0_BITS) | Cr0.ET;
  const old = state.get64(State.cr0);
  const changed = next ^ old;
  const cr4 = state.get64(State.cr4);
  let efer = state.get64(State.efer);
  if (next & Cr0More.NW && !(next & Cr0More.CD)) cpu.generalProtection();
  if (next & Cr0.PG && !(next & Cr0.PE)) cpu.generalProtection();
  if (next & Cr0.PG) {
    if (changed & Cr0.PG && efer & Efer.LME) {
      const long = (attributesOf(state, Seg.CS) & SegmentAttribute.LONG) !== 0;
      if (!(cr4 & Cr4.PAE) || long) cpu.generalProtection();
      efer |= Efer.LMA;
    }
    if (usesPae(next, cr4, efer) && changed & CR0_PDPTE_BITS) {
      loadPdptes(cpu, state.get64(State.cr3), Vector.GP);
    }
  } else if (changed & Cr0.PG) {
    if (cpu.bits64 || cr4 & Cr4.PCIDE) cpu.generalProtection();
    efer &= ~Efer.LMA;
  }
  state.set64(State.cr0, next);
  state.set64(State.efer, efer);
  if (changed & (Cr0.PG | Cr0.WP | Cr0.PE)) cpu.flushAll();
  cpu.modeMayHaveChanged();
}

/** `vector`: what an impossible value raises; in a task switch it is #TS. */
export function loadCr3(cpu: Processor, value: bigint, vector: number = Vector.GP): void {
  const { state } = cpu;
  const keep = (value & CR3_NO_FLUSH) !== 0n && (state.get64(State.cr4) & Cr4.PCIDE) !== 0n;
  const next = keep ? value & ~CR3_NO_FLUSH : value;
  if (cpu.longMode) {
    if (next >> BigInt(cpu.features.physicalBits)) cpu.fault(vector);
  } else if (usesPae(state.get64(State.cr0), state.get64(State.cr4), state.get64(State.efer))) {
    loadPdptes(cpu, next, vector);
  }
  const old = state.get64(State.cr3);
  state.set64(State.cr3, next);
  // Buffers are not kept apart by PCID: only going on with the same tables keeps them.
  if (!keep || next !== old) cpu.flushNonGlobal();
}

export function writeCr4(cpu: Processor, value: bigint): void {
  const { state } = cpu;
  if (value & ~cpu.features.cr4) cpu.generalProtection();
  const old = state.get64(State.cr4);
  const changed = value ^ old;
  const cr0 = state.get64(State.cr0);
  const cr3 = state.get64(State.cr3);
  if (cpu.longMode) {
    if (!(value & Cr4.PAE)) cpu.generalProtection();
  } else if (usesPae(cr0, value, state.get64(State.efer)) && changed & CR4_PDPTE_BITS) {
    loadPdptes(cpu, cr3, Vector.GP);
  }
  if (changed & Cr4.PCIDE && value & Cr4.PCIDE && (!cpu.longMode || cr3 & PCID)) cpu.generalProtection();
  state.set64(State.cr4, value);
  if (changed & CR4_FLUSH_BITS) cpu.flushAll();
  cpu.modeMayHaveChanged();
}

/** WRMSR of EFER; false is #GP. */
export function writeEfer(cpu: Processor, value: bigint): boolean {
  const { state } = cpu;
  const old = state.get64(State.efer);
  if (value & ~(cpu.features.efer | Efer.LMA)) return false;
  if ((value ^ old) & Efer.LME && state.get64(State.cr0) & Cr0.PG) return false;
  state.set64(State.efer, (value & ~Efer.LMA) | (old & Efer.LMA));
  if ((value ^ old) & Efer.NXE) cpu.flushAll();
  cpu.modeMayHaveChanged();
  return true;
}

/** Reads the four PDPTEs of PAE paging; one that has reserved bits set refuses the whole load. */
function loadPdptes(cpu: Processor, cr3: bigint, vector: number): void {
  const entries = cpu.memory.readPhysical64(Number(cr3 & 0xffffffe0n), 4);
  const reserved = PDPTE_RESERVED | ((~0n << BigInt(cpu.features.physicalBits)) & (2n ** 64n - 1n));
  for (const entry of entries) {
    if (entry === undefined || (entry & 1n && entry & reserved)) cpu.fault(vector);
  }
  readPdptes(cpu, cr3);
}
