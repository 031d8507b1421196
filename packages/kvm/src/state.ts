/** A vCPU's whole state as one record, saved and restored in the order that KVM needs. */

import { KvmError } from "./errors.ts";
import type { Vcpu } from "./vcpu.ts";

/** IA32_TSC_DEADLINE: writing it arms the timer against the TSC, so the TSC comes first. */
const MSR_TSC_DEADLINE = 0x6e0;

export type VcpuState = ReturnType<typeof saveVcpu>;

/**
 * Reads everything that a vCPU is. It must be stopped; the answer to its last exit is taken over first. `msrs`: the
 * MSRs to save, of `Hypervisor.msrIndices`; those that this vCPU does not have must be left out.
 */
export function saveVcpu(vcpu: Vcpu, msrs: readonly number[]) {
  vcpu.completeExit();
  return {
    // The order is Firecracker's and the kernel's: MP state first, as reading it settles the APIC; events last, as the
    // other reads may queue some.
    mpState: vcpu.getMpState(),
    regs: vcpu.getRegs(),
    sregs: vcpu.getSregs(),
    xsave: vcpu.getXsave(),
    xcrs: vcpu.getXcrs(),
    debugRegs: vcpu.getDebugRegs(),
    lapic: lapicOf(vcpu),
    nested: vcpu.getNestedState(),
    tscKhz: vcpu.getTscKhz(),
    cpuid: vcpu.getCpuid(),
    msrs: vcpu.getMsrs(msrs),
    events: vcpu.getEvents(),
  };
}

/** Makes a new vCPU that has not run yet what a saved one was. */
export function restoreVcpu(vcpu: Vcpu, state: VcpuState): void {
  if (vcpu.getTscKhz() !== state.tscKhz) vcpu.setTscKhz(state.tscKhz);
  // CPUID decides which MSRs and registers there are.
  vcpu.setCpuid(state.cpuid);
  vcpu.setMpState(state.mpState);
  // Before the events: setting registers drops pending exceptions.
  vcpu.setRegs(state.regs);
  vcpu.setSregs(state.sregs);
  vcpu.setXcrs(state.xcrs);
  vcpu.setXsave(state.xsave);
  vcpu.setDebugRegs(state.debugRegs);
  // After sregs, which hold the APIC's base; before the MSRs, which hold its deadline.
  if (state.lapic !== undefined) vcpu.setLapic(state.lapic);
  if (state.nested !== undefined) vcpu.setNestedState(state.nested);
  vcpu.setMsrs(state.msrs.filter((msr) => msr.index !== MSR_TSC_DEADLINE));
  vcpu.setMsrs(state.msrs.filter((msr) => msr.index === MSR_TSC_DEADLINE));
  vcpu.setEvents(state.events);
}

/** Undefined where the local APICs are not in the hypervisor, which is the only reason to refuse it. */
function lapicOf(vcpu: Vcpu): Uint8Array | undefined {
  try {
    return vcpu.getLapic();
  } catch (error) {
    if (error instanceof KvmError && error.code === "KVM_REQUEST_FAILED") return undefined;
    throw error;
  }
}
