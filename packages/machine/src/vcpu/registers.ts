/** A vCPU's registers, as a whole. */

import type { Vcpu } from "@lodge/kvm";
import { viewOf } from "../view.ts";
import type { Registers } from "./protocol.ts";

/** MXCSR in an XSAVE area (Intel SDM vol. 1, 10.5.1), and the bit of its header that says that it counts (13.4.2). */
const MXCSR = 24;
const XSTATE_BV = 512;
const SSE = 2n;

export function registersOf(vcpu: Vcpu): Registers {
  const area = viewOf(vcpu.getXsave());
  return {
    regs: vcpu.getRegs(),
    sregs: vcpu.getSregs(),
    fpu: { ...vcpu.getFpu(), mxcsr: area.getUint32(MXCSR, true) },
  };
}

export function setRegisters(vcpu: Vcpu, { regs, sregs, fpu }: Registers): void {
  vcpu.setSregs(sregs);
  vcpu.setRegs(regs);
  vcpu.setFpu(fpu);
  const bytes = vcpu.getXsave();
  const area = viewOf(bytes);
  if (area.getUint32(MXCSR, true) === fpu.mxcsr) return;
  area.setUint32(MXCSR, fpu.mxcsr, true);
  area.setBigUint64(XSTATE_BV, area.getBigUint64(XSTATE_BV, true) | SSE, true);
  vcpu.setXsave(bytes);
}
