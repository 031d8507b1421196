/**
 * x87, SSE and AVX state as FXSAVE and XSAVE lay it out in memory, which is also how KVM hands it over (Intel SDM
 * vol. 1, 10.5.1 and 13.4). Between these images and the vCPU's state.
 */

import { State } from "../cpu/layout.ts";
import type { CpuState } from "../cpu/state.ts";
import { withSummary } from "../x87/layout.ts";
import { Xcr0 } from "./features.ts";

/** Offsets in the image. */
export const Image = {
  fcw: 0,
  fsw: 2,
  /** Abridged: a bit for each physical register that is not empty. */
  ftw: 4,
  fop: 6,
  fip: 8,
  fdp: 16,
  mxcsr: 24,
  mxcsrMask: 28,
  /** ST(0) to ST(7), 16 bytes each. */
  st: 32,
  xmm: 160,
  legacySize: 512,
  /** The XSAVE header (13.4.2). */
  xstateBv: 512,
  xcompBv: 520,
  /** The rest of the header, which must be 0. */
  headerReserved: 528,
  /** The upper halves of ymm0 to ymm15; the same place in both formats, as AVX is the first extended component. */
  avx: 576,
  size: 832,
} as const;

export const MXCSR_MASK = 0xffff;
export const MXCSR_INITIAL = 0x1f80;
export const FCW_INITIAL = 0x37f;

const STATUS_TOP_SHIFT = 11;
const VECTOR = 32;

/** FNINIT (vol. 2). */
export function initializeX87(state: CpuState): void {
  state.set32(State.fcw, FCW_INITIAL);
  for (const field of [State.fsw, State.ftw, State.ftop, State.fop]) state.set32(field, 0);
  state.set64(State.fip, 0n);
  state.set64(State.fdp, 0n);
}

/** The initial configuration of a component (13.6); x87's registers are cleared, too. */
export function initializeComponent(state: CpuState, component: bigint): void {
  if (component === Xcr0.X87) {
    initializeX87(state);
    for (let at = 0; at < 8 * 16; at += 8) state.set64(State.fpr + at, 0n);
    return;
  }
  const half = component === Xcr0.AVX ? 16 : 0;
  for (let index = 0; index < 16; index++) {
    state.set64(State.vector + index * VECTOR + half, 0n);
    state.set64(State.vector + index * VECTOR + half + 8, 0n);
  }
}

/** Which components are not in their initial configuration (XINUSE, 13.6). MXCSR does not count here. */
export function componentsInUse(state: CpuState): bigint {
  let used = 0n;
  const words = state.get32(State.fsw) | state.get32(State.ftw) | state.get32(State.ftop) | state.get32(State.fop);
  const isInitial = state.get32(State.fcw) === FCW_INITIAL && words === 0;
  if (!isInitial || !isZero(state, State.fip, 8) || !isZero(state, State.fdp, 8) || !isZero(state, State.fpr, 8 * 16)) {
    used |= Xcr0.X87;
  }
  for (let index = 0; index < 16; index++) {
    const at = State.vector + index * VECTOR;
    if (!isZero(state, at, 16)) used |= Xcr0.SSE;
    if (!isZero(state, at + 16, 16)) used |= Xcr0.AVX;
  }
  return used;
}

function isZero(state: CpuState, offset: number, size: number): boolean {
  for (let at = 0; at < size; at += 4) if (state.get32(offset + at) !== 0) return false;
  return true;
}

/** Writes the x87 part. With `wide`, pointers have 64 bits; else 32, and the selectors behind them are 0. */
export function saveX87(state: CpuState, image: DataView, wide: boolean): void {
  const top = state.get32(State.ftop) & 7;
  image.setUint16(Image.fcw, state.get32(State.fcw), true);
  image.setUint16(Image.fsw, (state.get32(State.fsw) & ~(7 << STATUS_TOP_SHIFT)) | (top << STATUS_TOP_SHIFT), true);
  image.setUint8(Image.ftw, state.get32(State.ftw));
  image.setUint8(Image.ftw + 1, 0);
  image.setUint16(Image.fop, state.get32(State.fop), true);
  image.setBigUint64(Image.fip, wide ? state.get64(State.fip) : state.get64(State.fip) & 0xffffffffn, true);
  image.setBigUint64(Image.fdp, wide ? state.get64(State.fdp) : state.get64(State.fdp) & 0xffffffffn, true);
  for (let index = 0; index < 8; index++) {
    const from = State.fpr + ((top + index) & 7) * 16;
    const to = Image.st + index * 16;
    image.setInt32(to, state.get32(from), true);
    image.setInt32(to + 4, state.get32(from + 4), true);
    image.setInt32(to + 8, state.get32(from + 8) & 0xffff, true);
    image.setInt32(to + 12, 0, true);
  }
}

export function restoreX87(state: CpuState, image: DataView, wide: boolean): void {
  const fsw = image.getUint16(Image.fsw, true);
  const top = (fsw >>> STATUS_TOP_SHIFT) & 7;
  // Bit 6 of the control word is always set, 7 and 13 to 15 never.
  state.set32(State.fcw, (image.getUint16(Image.fcw, true) & 0x1f7f) | 0x40);
  state.set32(State.fsw, withSummary(fsw & ~(7 << STATUS_TOP_SHIFT), state.get32(State.fcw)));
  state.set32(State.ftop, top);
  state.set32(State.ftw, image.getUint8(Image.ftw));
  state.set32(State.fop, image.getUint16(Image.fop, true) & 0x7ff);
  const pointer = (at: number) => (wide ? image.getBigUint64(at, true) : BigInt(image.getUint32(at, true)));
  state.set64(State.fip, pointer(Image.fip));
  state.set64(State.fdp, pointer(Image.fdp));
  for (let index = 0; index < 8; index++) {
    const to = State.fpr + ((top + index) & 7) * 16;
    const from = Image.st + index * 16;
    state.set32(to, image.getInt32(from, true));
    state.set32(to + 4, image.getInt32(from + 4, true));
    state.set32(to + 8, image.getUint16(from + 8, true));
    state.set32(to + 12, 0);
  }
}

/** The lower halves of the first `count` vector registers, or with `avx` their upper halves. */
export function saveVectors(state: CpuState, image: DataView, count: number, avx: boolean): void {
  const to = avx ? Image.avx : Image.xmm;
  for (let index = 0; index < count; index++) {
    const from = State.vector + index * VECTOR + (avx ? 16 : 0);
    for (let word = 0; word < 16; word += 4) image.setInt32(to + index * 16 + word, state.get32(from + word), true);
  }
}

export function restoreVectors(state: CpuState, image: DataView, count: number, avx: boolean): void {
  const from = avx ? Image.avx : Image.xmm;
  for (let index = 0; index < count; index++) {
    const to = State.vector + index * VECTOR + (avx ? 16 : 0);
    for (let word = 0; word < 16; word += 4) state.set32(to + word, image.getInt32(from + index * 16 + word, true));
  }
}
