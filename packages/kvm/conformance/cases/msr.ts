/** Model-specific registers: KVM_SET_MSRS (api.rst 4.18), exits to the monitor (7.21) and the filter (4.97). */

import { Capability, ExitReason, MsrExitReason } from "../../src/index.ts";
import { type Group, needs } from "../case.ts";
import { equal, ok, refused } from "../check.ts";
import { long } from "../guest.ts";
import type { Machine } from "../machine.ts";

/** Intel SDM vol. 4, table 2-2. */
const Msr = {
  TSC: 0x10,
  SYSENTER_CS: 0x174,
  SYSENTER_ESP: 0x175,
  SYSENTER_EIP: 0x176,
  PAT: 0x277,
  STAR: 0xc0000081,
  LSTAR: 0xc0000082,
  CSTAR: 0xc0000083,
  FMASK: 0xc0000084,
  KERNEL_GS_BASE: 0xc0000102,
  TSC_AUX: 0xc0000103,
} as const;
/** In a range that no processor uses. */
const NOWHERE = 0x5000;

/** Reads and writes the MSR in ecx; a #GP goes to the handler, which says so. */
const reader = long`
      read:
        rdmsr
        hlt
      write:
        wrmsr
        hlt
      refused:
        mov ebx, 0x6b
        hlt`;

export const msr: Group = {
  name: "msr",
  cases: [
    {
      name: "what was set is read back, by the monitor and by the guest",
      guest: reader,
      run(t) {
        const m = t.machine();
        const values: [number, bigint][] = [
          [Msr.SYSENTER_CS, 0x10n],
          // On AMD's processors these two have 32 bits.
          [Msr.SYSENTER_ESP, 0x80001000n],
          [Msr.SYSENTER_EIP, 0x80002000n],
          [Msr.PAT, 0x0007010600070106n],
          [Msr.STAR, 0x0023001000000000n],
          [Msr.LSTAR, 0xffff800000003000n],
          [Msr.CSTAR, 0xffff800000004000n],
          [Msr.FMASK, 0x700n],
          [Msr.KERNEL_GS_BASE, 0xffff800000005000n],
        ];
        const entries = values.map(([index, data]) => ({ index, data }));
        m.vcpu.setMsrs(entries);
        equal(m.vcpu.getMsrs(values.map(([index]) => index)), entries, "by the monitor");
        for (const [index, data] of values) equal(rdmsr(m, index), data, `MSR 0x${index.toString(16)} by the guest`);
      },
    },
    {
      name: "TSC_AUX is what rdtscp puts into ecx",
      guest: long`
        rdtscp
        hlt`,
      run(t) {
        const m = t.machine();
        const has = m.cpuid.some((one) => one.function === 0x80000001 && one.edx & (1 << 27));
        if (!has) t.skip("this host gives guests no RDTSCP");
        m.vcpu.setMsrs([{ index: Msr.TSC_AUX, data: 0x12345n }]);
        m.expect(ExitReason.HLT);
        equal(m.vcpu.getRegs().rcx, 0x12345n, "ecx");
      },
    },
    {
      name: "the guest's wrmsr is seen by the monitor",
      guest: reader,
      run(t) {
        const m = t.machine();
        wrmsr(m, Msr.LSTAR, 0xffff800012345000n);
        equal(m.vcpu.getMsrs([Msr.LSTAR]), [{ index: Msr.LSTAR, data: 0xffff800012345000n }], "LSTAR");
      },
    },
    {
      name: "a value that the MSR does not take is #GP for the guest, and named for the monitor",
      guest: reader,
      run(t) {
        const m = t.machine();
        m.handle(13, "refused");
        wrmsr(m, Msr.LSTAR, 0x800000000000n);
        const taken = m.vcpu.getRegs().rbx === 0n;
        for (const kind of ["interprets", "tcg"] as const) {
          t.excuse(taken, kind, "takes an address in LSTAR that is not canonical");
        }
        equal(m.vcpu.getRegs().rbx, 0x6bn, "the handler's mark");
        const entries = [
          { index: Msr.FMASK, data: 1n },
          { index: Msr.LSTAR, data: 0x800000000000n },
        ];
        refused(() => m.vcpu.setMsrs(entries), "KVM_MSR_REFUSED", "MSR 0xc0000082 does not take 0x800000000000");
      },
    },
    {
      name: "an MSR that there is not is #GP for the guest, and named for the monitor",
      guest: reader,
      run(t) {
        const m = t.machine();
        m.handle(13, "refused");
        rdmsr(m, NOWHERE);
        equal(m.vcpu.getRegs().rbx, 0x6bn, "the handler's mark");
        refused(() => m.vcpu.getMsrs([Msr.LSTAR, NOWHERE]), "KVM_MSR_REFUSED", "MSR 0x5000 does not exist");
        refused(() => t.hypervisor.readFeatureMsrs([NOWHERE]), "KVM_MSR_REFUSED", "MSR 0x5000");
      },
    },
    {
      name: "the host's lists: state MSRs can be read of a vCPU, feature MSRs of the host",
      guest: reader,
      unsupported: needs(Capability.GET_MSR_FEATURES),
      run(t) {
        const indices = t.hypervisor.msrIndices();
        const m = t.machine();
        for (const index of [Msr.TSC, Msr.SYSENTER_EIP, Msr.STAR, Msr.LSTAR]) {
          ok(indices.includes(index), `0x${index.toString(16)} is in the list`);
        }
        equal(m.vcpu.getMsrs([Msr.STAR]).length, 1, "one of them is read");
        const features = t.hypervisor.featureMsrIndices();
        equal(t.hypervisor.readFeatureMsrs(features).length, features.length, "all feature MSRs are read");
      },
    },
    {
      // KVM_CAP_X86_USER_SPACE_MSR (7.21).
      name: "an unknown MSR exits to the monitor, which answers reads and takes writes",
      unsupported: needs(Capability.X86_USER_SPACE_MSR),
      guest: reader,
      run(t) {
        const m = t.machine();
        m.vm.setMsrExits(MsrExitReason.UNKNOWN);
        m.handle(13, "refused");
        start(m, "read", NOWHERE);
        m.expect(ExitReason.X86_RDMSR);
        const { page } = m.vcpu;
        equal(
          { index: page.msr.index, reason: page.msr.reason },
          { index: NOWHERE, reason: MsrExitReason.UNKNOWN },
          "",
        );
        page.msr.data = 0x1122334455667788n;
        m.expect(ExitReason.HLT);
        equal(edxEax(m), 0x1122334455667788n, "what the guest got");
        start(m, "write", NOWHERE, 0x99aabbccddeeff00n);
        m.expect(ExitReason.X86_WRMSR);
        equal(
          { index: page.msr.index, data: page.msr.data },
          { index: NOWHERE, data: 0x99aabbccddeeff00n },
          "the write",
        );
        m.expect(ExitReason.HLT);
        equal(m.vcpu.getRegs().rip, BigInt(m.at("refused")), "the guest went on behind the write");
      },
    },
    {
      name: "the monitor refuses an MSR access: #GP for the guest",
      unsupported: needs(Capability.X86_USER_SPACE_MSR),
      guest: reader,
      run(t) {
        const m = t.machine();
        m.vm.setMsrExits(MsrExitReason.UNKNOWN);
        m.handle(13, "refused");
        start(m, "read", NOWHERE);
        m.expect(ExitReason.X86_RDMSR);
        m.vcpu.page.msr.error = true;
        m.expect(ExitReason.HLT);
        equal(m.vcpu.getRegs().rbx, 0x6bn, "the handler's mark");
      },
    },
    {
      // KVM_X86_SET_MSR_FILTER (4.97).
      name: "a filtered MSR is #GP for the guest, while others pass",
      unsupported: needs(Capability.X86_MSR_FILTER),
      guest: reader,
      run(t) {
        const m = t.machine();
        m.handle(13, "refused");
        m.vcpu.setMsrs([{ index: Msr.STAR, data: 0x1234n }]);
        // STAR passes, LSTAR does not.
        m.vm.setMsrFilter([{ access: "both", base: Msr.STAR, count: 2, allowed: Uint8Array.of(0b01) }]);
        equal(rdmsr(m, Msr.STAR), 0x1234n, "STAR");
        rdmsr(m, Msr.LSTAR);
        equal(m.vcpu.getRegs().rbx, 0x6bn, "the handler's mark after LSTAR");
        m.vm.setMsrFilter([]);
        m.setRegs({ rbx: 0n });
        rdmsr(m, Msr.LSTAR);
        equal(m.vcpu.getRegs().rbx, 0n, "no mark once the filter is taken away");
      },
    },
    {
      name: "a filter of writes lets reads pass; a filtered access can exit to the monitor",
      unsupported: needs(Capability.X86_MSR_FILTER, Capability.X86_USER_SPACE_MSR),
      guest: reader,
      run(t) {
        const m = t.machine();
        m.handle(13, "refused");
        m.vm.setMsrExits(MsrExitReason.FILTER);
        m.vm.setMsrFilter([{ access: "write", base: Msr.STAR, count: 1, allowed: Uint8Array.of(0) }]);
        equal(rdmsr(m, Msr.STAR), 0n, "a read");
        start(m, "write", Msr.STAR, 0x5678n);
        m.expect(ExitReason.X86_WRMSR);
        const { index, reason, data } = m.vcpu.page.msr;
        equal({ index, reason, data }, { index: Msr.STAR, reason: MsrExitReason.FILTER, data: 0x5678n }, "a write");
        m.expect(ExitReason.HLT);
        equal(m.vcpu.getMsrs([Msr.STAR])[0]?.data, 0n, "the write did not happen: that was the monitor's to do");
      },
    },
    {
      name: "denied by default, only what a range allows passes",
      unsupported: needs(Capability.X86_MSR_FILTER),
      guest: reader,
      run(t) {
        const m = t.machine();
        m.handle(13, "refused");
        const allowed = { access: "both", base: Msr.FMASK, count: 1, allowed: Uint8Array.of(1) } as const;
        m.vm.setMsrFilter([allowed], { denyByDefault: true });
        rdmsr(m, Msr.STAR);
        equal(m.vcpu.getRegs().rbx, 0x6bn, "the handler's mark after STAR");
        m.setRegs({ rbx: 0n });
        rdmsr(m, Msr.FMASK);
        equal(m.vcpu.getRegs().rbx, 0n, "no mark after FMASK");
      },
    },
    {
      name: "a filter is refused that has too many ranges, or too few bits",
      unsupported: needs(Capability.X86_MSR_FILTER),
      guest: reader,
      run(t) {
        const m = t.machine();
        const range = { access: "both", base: Msr.STAR, count: 9, allowed: Uint8Array.of(1) } as const;
        refused(() => m.vm.setMsrFilter([range]), "KVM_INVALID", "a bit for each");
        const many = Array.from({ length: 17 }, () => ({ ...range, count: 1 }));
        refused(() => m.vm.setMsrFilter(many), "KVM_INVALID", "at most 16");
      },
    },
  ],
};

/** Puts the vCPU before the instruction at `label`, with an MSR's number and a value. */
function start(m: Machine, label: string, index: number, value = 0n): void {
  const regs = { rip: BigInt(m.at(label)), rcx: BigInt(index), rax: value & 0xffffffffn, rdx: value >> 32n };
  m.setRegs({ ...regs, rsp: 0x8000n });
}

function edxEax(m: Machine): bigint {
  const { rax, rdx } = m.vcpu.getRegs();
  return (rdx << 32n) | rax;
}

function rdmsr(m: Machine, index: number): bigint {
  start(m, "read", index);
  m.expect(ExitReason.HLT);
  return edxEax(m);
}

function wrmsr(m: Machine, index: number, value: bigint): void {
  start(m, "write", index, value);
  m.expect(ExitReason.HLT);
}
