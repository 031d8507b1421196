/** Hypercalls: KVM's own (Documentation/virt/kvm/x86/hypercalls.rst), and those that exit to the monitor (api.rst 7.34). */

import { Capability, type CpuidEntry, ExitReason, GuestDebugControl } from "../../src/index.ts";
import { type Group, type Host, needs } from "../case.ts";
import { equal } from "../check.ts";
import type { Context } from "../context.ts";
import { type Guest, long, user } from "../guest.ts";
import { DATA, MMIO } from "../layout.ts";

/** KVM_HC_MAP_GPA_RANGE: address, pages, attributes. Its feature bit is CPUID 0x40000001.EAX[16]. */
const MAP_GPA_RANGE = 12;
const FEATURE_MAP_GPA_RANGE = 1 << 16;
const ENCRYPTED = 1 << 4;

/** What KVM answers, as a negative number: KVM_ENOSYS and KVM_EPERM. */
const ENOSYS = -1000n;
const EPERM = -1n;

export const hypercalls: Group = {
  name: "hypercalls",
  cases: [
    {
      // Intel's instruction and AMD's: KVM rewrites the one that its processor does not have (hypercalls.rst).
      name: "an unknown hypercall returns ENOSYS, by either instruction",
      guest: long`
        mov eax, 999
      call:
        vmcall
        mov rbx, rax
        mov eax, 999
        vmmcall
        hlt`,
      run(t) {
        mustGetPast(t);
        const m = t.machine();
        m.expect(ExitReason.HLT);
        const { rax, rbx } = m.vcpu.getRegs();
        equal([BigInt.asIntN(64, rbx), BigInt.asIntN(64, rax)], [ENOSYS, ENOSYS], "rax after each");
      },
    },
    {
      // By the processor's own instruction: of the other one KVM's emulator makes a #GP in ring 3.
      name: "ring 3 may not make hypercalls",
      guest: ringThree("vmcall"),
      guests: { amd: ringThree("vmmcall") },
      run(t) {
        const m = t.machine(isAmd(t.host) ? { guest: "amd" } : {});
        m.handleUnknown("unknown");
        m.expectWrite(MMIO, BigInt.asUintN(64, EPERM), 8);
      },
    },
    {
      name: "a hypercall that the monitor asked for exits with its arguments, and returns the monitor's answer",
      unsupported: needs(Capability.EXIT_HYPERCALL),
      guest: long`
        mov eax, ${MAP_GPA_RANGE}
        mov ebx, ${DATA}
        mov ecx, 2
        mov edx, ${ENCRYPTED}
      call:
        vmcall
        hlt`,
      run(t) {
        mustGetPast(t);
        const m = t.machine({
          cpuid: withFeature(t.host),
          beforeVcpus: (vm) => vm.enableCapability(Capability.EXIT_HYPERCALL, BigInt(1 << MAP_GPA_RANGE)),
        });
        m.expect(ExitReason.HYPERCALL);
        const { hypercall } = m.vcpu.page;
        equal(hypercall.nr, BigInt(MAP_GPA_RANGE), "the number");
        const given = [0, 1, 2].map((index) => hypercall.argument(index));
        equal(given, [BigInt(DATA), 2n, BigInt(ENCRYPTED)], "the arguments");
        hypercall.result = 0x1234n;
        m.expect(ExitReason.HLT);
        equal(m.vcpu.getRegs().rax, 0x1234n, "what the guest got");
      },
    },
    {
      name: "the same hypercall is unknown where the monitor did not ask for it",
      unsupported: needs(Capability.EXIT_HYPERCALL),
      guest: long`
        mov eax, ${MAP_GPA_RANGE}
        mov ebx, ${DATA}
        mov ecx, 1
        xor edx, edx
      call:
        vmcall
        hlt`,
      run(t) {
        mustGetPast(t);
        const m = t.machine({ cpuid: withFeature(t.host) });
        m.expect(ExitReason.HLT);
        equal(BigInt.asIntN(64, m.vcpu.getRegs().rax), ENOSYS, "rax");
      },
    },
  ],
};

function ringThree(instruction: "vmcall" | "vmmcall"): Guest {
  return user`
        mov eax, 999
        ${instruction}
        mov rdi, ${MMIO}
        mov [rdi], rax
      unknown:
        hlt`;
}

/** "Auth" of "AuthenticAMD": whose processor has vmmcall. */
function isAmd(host: Host): boolean {
  return host.hypervisor.supportedCpuid().some((leaf) => leaf.function === 0 && leaf.ebx === 0x68747541);
}

function withFeature(host: Host): CpuidEntry[] {
  return host.hypervisor
    .supportedCpuid()
    .map((leaf) => (leaf.function === 0x40000001 ? { ...leaf, eax: leaf.eax | FEATURE_MAP_GPA_RANGE } : leaf));
}

/** Single-steps a machine of its own to the hypercall and over it. Some hosts that interpret stay there for ever. */
function mustGetPast(t: Context): void {
  if (!t.host.interprets) return;
  const m = t.machine();
  const control = GuestDebugControl.ENABLE | GuestDebugControl.SINGLESTEP;
  m.vcpu.setGuestDebug({ control, debugreg: Array.from({ length: 8 }, () => 0n) });
  const call = BigInt(m.at("call"));
  while (m.vcpu.getRegs().rip !== call) m.expect(ExitReason.DEBUG);
  m.expect(ExitReason.DEBUG);
  t.excuse(m.vcpu.getRegs().rip === call, "interprets", "never gets past a hypercall");
}
