/** x87, SSE and AVX state as KVM has it. */

import { type Fpu, KvmError, type Xcrs, XSAVE_SIZE } from "@lodge/kvm";
import { State } from "../cpu/layout.ts";
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
import type { Processor } from "./processor.ts";
import { isPossibleXcr0 } from "./processor-control.ts";

export function getFpu({ state }: Processor): Fpu {
  const image = new DataView(new ArrayBuffer(Image.legacySize));
  saveX87(state, image, true);
  saveVectors(state, image, 16, false);
  return {
    fpr: new Uint8Array(image.buffer, Image.st, 128).slice(),
    fcw: image.getUint16(Image.fcw, true),
    fsw: image.getUint16(Image.fsw, true),
    ftwx: image.getUint8(Image.ftw),
    lastOpcode: image.getUint16(Image.fop, true),
    lastIp: image.getBigUint64(Image.fip, true),
    lastDp: image.getBigUint64(Image.fdp, true),
    xmm: new Uint8Array(image.buffer, Image.xmm, 256).slice(),
    // The kernel leaves it out, both ways: KVM_GET_XSAVE has it.
    mxcsr: 0,
  };
}

export function setFpu({ state }: Processor, fpu: Fpu): void {
  const image = new DataView(new ArrayBuffer(Image.legacySize));
  const bytes = new Uint8Array(image.buffer);
  bytes.set(fpu.fpr, Image.st);
  bytes.set(fpu.xmm, Image.xmm);
  image.setUint16(Image.fcw, fpu.fcw, true);
  image.setUint16(Image.fsw, fpu.fsw, true);
  image.setUint8(Image.ftw, fpu.ftwx);
  image.setUint16(Image.fop, fpu.lastOpcode, true);
  image.setBigUint64(Image.fip, fpu.lastIp, true);
  image.setBigUint64(Image.fdp, fpu.lastDp, true);
  restoreX87(state, image, true);
  restoreVectors(state, image, 16, false);
}

/** The standard format; a component is present when it is not in its initial configuration. */
export function getXsave({ state }: Processor): Uint8Array {
  const area = new Uint8Array(XSAVE_SIZE);
  const image = new DataView(area.buffer);
  saveX87(state, image, true);
  saveVectors(state, image, 16, false);
  saveVectors(state, image, 16, true);
  image.setUint32(Image.mxcsr, state.get32(State.mxcsr), true);
  image.setUint32(Image.mxcsrMask, MXCSR_MASK, true);
  image.setBigUint64(Image.xstateBv, componentsInUse(state), true);
  return area;
}

export function setXsave(cpu: Processor, area: Uint8Array): void {
  const { state, features } = cpu;
  if (area.length < Image.size) throw new KvmError("KVM_INVALID", `an XSAVE area of ${area.length} bytes`);
  const image = new DataView(area.buffer, area.byteOffset, area.byteLength);
  const present = image.getBigUint64(Image.xstateBv, true);
  const mxcsr = image.getUint32(Image.mxcsr, true);
  const known = features.xcr0 | Xcr0.X87 | Xcr0.SSE;
  if (present & ~known || image.getBigUint64(Image.xcompBv, true) !== 0n || mxcsr & ~MXCSR_MASK) {
    throw new KvmError("KVM_REQUEST_FAILED", "XSAVE area: no processor of this model can be in this state");
  }
  for (const component of [Xcr0.X87, Xcr0.SSE, Xcr0.AVX]) {
    if (!(present & component)) initializeComponent(state, component);
  }
  if (present & Xcr0.X87) restoreX87(state, image, true);
  if (present & Xcr0.SSE) restoreVectors(state, image, 16, false);
  if (present & Xcr0.AVX) restoreVectors(state, image, 16, true);
  // MXCSR belongs to both (xfeatures_mxcsr_quirk in the kernel's arch/x86/kernel/fpu/xstate.c).
  state.set32(State.mxcsr, present & (Xcr0.SSE | Xcr0.AVX) ? mxcsr : MXCSR_INITIAL);
}

export function getXcrs({ state }: Processor): Xcrs {
  const xcrs = Array.from({ length: 16 }, () => ({ xcr: 0, value: 0n }));
  xcrs[0] = { xcr: 0, value: state.get64(State.xcr0) };
  return { nrXcrs: 1, flags: 0, xcrs };
}

export function setXcrs(cpu: Processor, { nrXcrs, flags, xcrs }: Xcrs): void {
  const refuse = (): never => {
    throw new KvmError("KVM_REQUEST_FAILED", "XCRs: no processor of this model can be in this state");
  };
  if (flags !== 0 || nrXcrs > xcrs.length) refuse();
  for (const { xcr, value } of xcrs.slice(0, nrXcrs)) {
    if (xcr !== 0) continue;
    if (!isPossibleXcr0(cpu, value)) refuse();
    cpu.state.set64(State.xcr0, value);
    cpu.modeMayHaveChanged();
  }
}
