/** FXSAVE, FXRSTOR and the XSAVE family (Intel SDM vol. 1, 10.5 and 13.7 to 13.12; vol. 2 for each). */

import { Cr4 } from "@lodge/kvm";
import { State } from "../cpu/layout.ts";
import type { Instruction } from "../decode/instruction.ts";
import { AccessKind } from "../mmu/access.ts";
import { Xcr0 } from "./features.ts";
import {
  componentsInUse,
  Image,
  initializeComponent,
  MXCSR_INITIAL,
  MXCSR_MASK,
  restoreVectors,
  restoreX87,
  saveVectors,
  saveX87,
} from "./fpu-image.ts";
import type { Microcode } from "./microcode.ts";
import { Gpr, linearOf, readOperand, writeOperand } from "./operands.ts";
import { kindOf, type Processor } from "./processor.ts";
import { checkFpu } from "./processor-control.ts";

/** XCOMP_BV bit 63: the compacted format. */
const COMPACTED = 1n << 63n;
const COMPONENTS = [Xcr0.X87, Xcr0.SSE, Xcr0.AVX] as const;

/**
 * The image, one for all: kernels save the registers at every switch, and making a buffer takes longer than that. What is written
 * to a guest's area has been put there by the same instruction.
 */
const IMAGE = new DataView(new ArrayBuffer(Image.size));
const IMAGE_BYTES = new Uint8Array(IMAGE.buffer);

/** An area in guest memory, checked whole, and the image that parts of it are read to and written from. */
class Area {
  readonly image = IMAGE;
  readonly #cpu: Processor;
  /** Where the whole area lies in linear memory, where that is all there is to it; else -1. */
  readonly #place: number;
  readonly #address: number;
  readonly #kind: number;

  constructor(cpu: Processor, instruction: Instruction, size: number, write: boolean, alignment: number) {
    const [operand] = instruction.operands;
    this.#cpu = cpu;
    this.#kind = kindOf(operand.segment);
    this.#address = linearOf(cpu, instruction, operand, size, write);
    if (this.#address & (alignment - 1)) cpu.generalProtection();
    const kind = this.#kind | (write ? AccessKind.WRITE : 0);
    cpu.probe(this.#address, size, kind);
    this.#place = cpu.memory.plain(this.#address, size, kind);
  }

  read(from: number, to: number): void {
    const { view } = this.#cpu.state;
    for (let at = from; at < to && this.#place >= 0; at += 4) {
      this.image.setInt32(at, view.getInt32(this.#place + at, true), true);
    }
    for (let at = from; at < to && this.#place < 0; at += 8) {
      this.#cpu.load(this.#address + at, 8, this.#kind);
      IMAGE_BYTES.set(this.#cpu.memory.transfer.subarray(0, 8), at);
    }
  }

  write(from: number, to: number): void {
    const { view } = this.#cpu.state;
    for (let at = from; at < to && this.#place >= 0; at += 4) {
      view.setInt32(this.#place + at, this.image.getInt32(at, true), true);
    }
    for (let at = from; at < to && this.#place < 0; at += 8) {
      this.#cpu.memory.transfer.set(IMAGE_BYTES.subarray(at, at + 8));
      this.#cpu.store(this.#address + at, 8, this.#kind);
    }
  }
}

/** How many vector registers this mode has. */
function vectorCount(cpu: Processor): number {
  return cpu.bits64 ? 16 : 8;
}

function checkMxcsr(cpu: Processor, value: number): void {
  if (value & ~MXCSR_MASK) cpu.generalProtection();
}

function fxsave(cpu: Processor, instruction: Instruction): void {
  checkFpu(cpu, "x87");
  const area = new Area(cpu, instruction, Image.legacySize, true, 16);
  const { image } = area;
  saveX87(cpu.state, image, instruction.wide);
  image.setUint32(Image.mxcsr, cpu.state.get32(State.mxcsr), true);
  image.setUint32(Image.mxcsrMask, MXCSR_MASK, true);
  const count = vectorCount(cpu);
  saveVectors(cpu.state, image, count, false);
  // What lies behind is software's.
  area.write(0, Image.xmm + count * 16);
}

function fxrstor(cpu: Processor, instruction: Instruction): void {
  checkFpu(cpu, "x87");
  const area = new Area(cpu, instruction, Image.legacySize, false, 16);
  area.read(0, Image.legacySize);
  const mxcsr = area.image.getUint32(Image.mxcsr, true);
  checkMxcsr(cpu, mxcsr);
  restoreX87(cpu.state, area.image, instruction.wide);
  cpu.state.set32(State.mxcsr, mxcsr);
  restoreVectors(cpu.state, area.image, vectorCount(cpu), false);
}

/** The components that EDX:EAX asks for of those that are enabled. */
function requested(cpu: Processor, enabled: bigint): bigint {
  const { state } = cpu;
  return enabled & ((state.gpr(Gpr.RAX) & 0xffffffffn) | ((state.gpr(Gpr.RDX) & 0xffffffffn) << 32n));
}

function requireXsave(cpu: Processor): void {
  if (!(cpu.state.get64(State.cr4) & Cr4.OSXSAVE)) cpu.undefinedInstruction();
  if (cpu.state.get32(State.cr0) & 8) checkFpu(cpu, "sse");
}

/** XSAVE and XSAVEOPT write the standard format, XSAVEC and XSAVES the compacted one. */
function save(compacted: boolean, optimized: boolean, supervisor: boolean): Microcode {
  return (cpu, instruction) => {
    requireXsave(cpu);
    if (supervisor) cpu.requireRing0();
    const { state } = cpu;
    const wanted = requested(cpu, state.get64(State.xcr0));
    const mxcsr = state.get32(State.mxcsr);
    let used = componentsInUse(state);
    if (compacted && mxcsr !== MXCSR_INITIAL) used |= Xcr0.SSE;
    const size = wanted & Xcr0.AVX ? Image.size : Image.avx;
    const area = new Area(cpu, instruction, size, true, 64);
    const { image } = area;
    area.read(Image.xstateBv, Image.xstateBv + 16);
    const written = compacted || optimized ? wanted & used : wanted;

    const count = vectorCount(cpu);
    if (written & Xcr0.X87) {
      saveX87(state, image, instruction.wide);
      area.write(0, Image.mxcsr);
      area.write(Image.st, Image.xmm);
    }
    const writesMxcsr = compacted ? written & Xcr0.SSE : wanted & (Xcr0.SSE | Xcr0.AVX);
    if (writesMxcsr) {
      image.setUint32(Image.mxcsr, mxcsr, true);
      image.setUint32(Image.mxcsrMask, MXCSR_MASK, true);
      area.write(Image.mxcsr, Image.st);
    }
    if (written & Xcr0.SSE) {
      saveVectors(state, image, count, false);
      area.write(Image.xmm, Image.xmm + count * 16);
    }
    if (written & Xcr0.AVX) {
      saveVectors(state, image, count, true);
      area.write(Image.avx, Image.avx + count * 16);
    }
    const old = compacted ? 0n : image.getBigUint64(Image.xstateBv, true) & ~wanted;
    image.setBigUint64(Image.xstateBv, old | (wanted & used), true);
    image.setBigUint64(Image.xcompBv, wanted | COMPACTED, true);
    area.write(Image.xstateBv, compacted ? Image.headerReserved : Image.xcompBv);
  };
}

function restore(supervisor: boolean): Microcode {
  return (cpu, instruction) => {
    requireXsave(cpu);
    if (supervisor) cpu.requireRing0();
    const { state } = cpu;
    const enabled = state.get64(State.xcr0);
    const wanted = requested(cpu, enabled);
    const area = new Area(cpu, instruction, Image.avx, false, 64);
    area.read(0, Image.avx);
    const { image } = area;
    const present = image.getBigUint64(Image.xstateBv, true);
    const layout = image.getBigUint64(Image.xcompBv, true);
    const compacted = (layout & COMPACTED) !== 0n;
    checkHeader(cpu, image, present, layout, enabled, supervisor);
    const loaded = wanted & present;
    const vectors = wanted & (Xcr0.SSE | Xcr0.AVX);
    const mxcsr = image.getUint32(Image.mxcsr, true);
    const readsMxcsr = compacted ? loaded & Xcr0.SSE : vectors;
    if (readsMxcsr) checkMxcsr(cpu, mxcsr);
    if (loaded & Xcr0.AVX) {
      // Only now is it known that the area goes on.
      new Area(cpu, instruction, Image.size, false, 64).read(0, Image.size);
    }

    for (const component of COMPONENTS) {
      if (wanted & ~loaded & component) initializeComponent(state, component);
    }
    const count = vectorCount(cpu);
    if (loaded & Xcr0.X87) restoreX87(state, image, instruction.wide);
    if (readsMxcsr) state.set32(State.mxcsr, mxcsr);
    else if (compacted && wanted & Xcr0.SSE) state.set32(State.mxcsr, MXCSR_INITIAL);
    if (loaded & Xcr0.SSE) restoreVectors(state, image, count, false);
    if (loaded & Xcr0.AVX) restoreVectors(state, image, count, true);
  };
}

/** What XRSTOR refuses (13.8). */
function checkHeader(
  cpu: Processor,
  image: DataView,
  present: bigint,
  layout: bigint,
  enabled: bigint,
  supervisor: boolean,
): void {
  let reserved = 0n;
  for (let at: number = Image.headerReserved; at < Image.avx; at += 8) reserved |= image.getBigUint64(at, true);
  if (layout & COMPACTED) {
    const components = layout & ~COMPACTED;
    if (!cpu.features.xsavec || components & ~enabled || present & ~components || reserved) cpu.generalProtection();
    return;
  }
  // The standard format leaves the last 40 bytes of the header to nobody, and does not check them.
  if (supervisor || layout !== 0n || present & ~enabled || image.getBigUint64(Image.headerReserved, true)) {
    cpu.generalProtection();
  }
}

export const XSAVE_INSTRUCTIONS: Record<string, Microcode> = {
  fxsave,
  fxrstor,
  xsave: save(false, false, false),
  xsaveopt: save(false, true, false),
  xsavec: save(true, true, false),
  xsaves: save(true, true, true),
  xrstor: restore(false),
  xrstors: restore(true),
  ldmxcsr: (cpu, instruction) => {
    checkFpu(cpu, "sse");
    const value = Number(readOperand(cpu, instruction, 0, 4));
    checkMxcsr(cpu, value);
    cpu.state.set32(State.mxcsr, value);
  },
  stmxcsr: (cpu, instruction) => {
    checkFpu(cpu, "sse");
    writeOperand(cpu, instruction, 0, BigInt(cpu.state.get32(State.mxcsr)), 4);
  },
};
