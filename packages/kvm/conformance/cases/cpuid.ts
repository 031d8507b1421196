/** What the guest's cpuid says: KVM_SET_CPUID2 (api.rst 4.20) and KVM_GET_SUPPORTED_CPUID (4.46). */

import { CPUID_SIGNIFICANT_INDEX, type CpuidEntry, ExitReason } from "../../src/index.ts";
import type { Group } from "../case.ts";
import { equal, ok, refused } from "../check.ts";
import { long, user } from "../guest.ts";
import { DATA, MMIO } from "../layout.ts";
import type { Machine } from "../machine.ts";

/** Asks for the leaf in eax and subleaf in ecx. */
const ask = long`
      again:
        cpuid
        hlt
        jmp again`;

export const cpuid: Group = {
  name: "cpuid",
  cases: [
    {
      name: "the guest reads the leaves that were set",
      guest: ask,
      run(t) {
        const leaves = withLeaf(t.hypervisor.supportedCpuid(), {
          ...leaf(0x40000000),
          eax: 0x40000001,
          ebx: 0x65646f4c,
          ecx: 0x65646f4c,
          edx: 0x65646f4c,
        });
        const m = t.machine({ cpuid: leaves });
        equal(answer(m, 0x40000000), [0x40000001, 0x65646f4c, 0x65646f4c, 0x65646f4c], "the hypervisor's leaf");
        const highest = leaves.find((one) => one.function === 0)!;
        equal(answer(m, 0), [highest.eax, highest.ebx, highest.ecx, highest.edx], "the vendor's leaf");
      },
    },
    {
      name: "subleaves differ where their index is significant",
      guest: ask,
      run(t) {
        const subleaf = (index: number) => ({
          ...leaf(4),
          index,
          flags: CPUID_SIGNIFICANT_INDEX,
          eax: 0x100 + index,
          ebx: 0x200 + index,
        });
        const others = t.hypervisor.supportedCpuid().filter((one) => one.function !== 4);
        const m = t.machine({ cpuid: [...others, subleaf(0), subleaf(1), subleaf(2)] });
        equal(answer(m, 4, 1).slice(0, 2), [0x101, 0x201], "subleaf 1");
        equal(answer(m, 4, 2).slice(0, 2), [0x102, 0x202], "subleaf 2");
        equal(answer(m, 4, 9), [0, 0, 0, 0], "a subleaf that was not set");
      },
    },
    {
      name: "a leaf without significant index answers for every index",
      guest: ask,
      run(t) {
        const m = t.machine({
          cpuid: withLeaf(t.hypervisor.supportedCpuid(), { ...leaf(0x40000010), eax: 1, ebx: 2, ecx: 3, edx: 4 }),
        });
        for (const index of [0, 7]) equal(answer(m, 0x40000010, index), [1, 2, 3, 4], `with ${index} in ecx`);
      },
    },
    {
      name: "ring 3 reads the same",
      guest: user`
        mov rdi, ${MMIO}
        mov eax, [${DATA}]
        xor ecx, ecx
        cpuid
        mov [rdi], ebx
        jmp .`,
      run(t) {
        const brand = { ...leaf(0x40000000), eax: 0x40000000, ebx: 0x12345678, ecx: 0, edx: 0 };
        const m = t.machine({ cpuid: withLeaf(t.hypervisor.supportedCpuid(), brand) });
        m.view.setUint32(DATA, 0x40000000, true);
        const exit = m.exit();
        const value = exit.reason === ExitReason.MMIO ? exit.value : undefined;
        t.excuse(value !== 0x12345678n, "interprets", "shows its own CPUID to ring 3");
        equal(value, 0x12345678n, "ebx of the hypervisor's leaf");
      },
    },
    {
      // Kernels keep some leaves up to date with the vCPU (OSXSAVE, XSAVE sizes) and may leave out empty ones.
      name: "getCpuid returns the leaves that were set, and none besides",
      guest: ask,
      run(t) {
        const own = { ...leaf(0x40000010), eax: 1, ebx: 2, ecx: 3, edx: 4 };
        const m = t.machine({ cpuid: withLeaf(t.hypervisor.supportedCpuid(), own) });
        const back = m.vcpu.getCpuid();
        const find = (entries: readonly CpuidEntry[], wanted: number) =>
          entries.filter((one) => one.function === wanted);
        equal(find(back, 0x40000010), [own], "the leaf of our own");
        equal(find(back, 0), find(m.cpuid, 0), "leaf 0");
        for (const { function: number, index } of back) {
          const set = m.cpuid.some((one) => one.function === number && one.index === index);
          ok(set, `leaf 0x${number.toString(16)}, subleaf ${index}, was set`);
        }
      },
    },
    {
      // Since Linux 5.16 the kernel refuses to change what the guest has seen; the same set again is fine.
      name: "after the first run other leaves are refused",
      guest: ask,
      run(t) {
        const m = t.machine();
        m.expect(ExitReason.HLT);
        const changed = withLeaf(m.cpuid, { ...leaf(0x40000000), ebx: 0xbad });
        refused(() => m.vcpu.setCpuid(changed), "KVM_REQUEST_FAILED", "the vCPU has run already");
      },
    },
    {
      name: "CR4.OSXSAVE shows in leaf 1 as the guest switches it",
      guest: long`
        mov eax, 1
        cpuid
        mov ebx, ecx
        mov rax, cr4
        bts rax, 18
        mov cr4, rax
        mov eax, 1
        cpuid
        hlt`,
      run(t) {
        const OSXSAVE = 1n << 27n;
        const m = t.machine();
        const has = m.cpuid.some((one) => one.function === 1 && one.ecx & (1 << 26));
        if (!has) t.skip("this host gives guests no XSAVE");
        m.expect(ExitReason.HLT);
        // ebx is cpuid's own second answer, so only ecx tells.
        equal(m.vcpu.getRegs().rcx & OSXSAVE, OSXSAVE, "the bit after switching it on");
      },
    },
    {
      name: "the host's own lists are whole: leaf 0 names the last basic leaf, and emulated features are features",
      run(t) {
        const supported = t.hypervisor.supportedCpuid();
        const last = supported.find((one) => one.function === 0);
        ok(last !== undefined, "there is a leaf 0");
        const basic = supported.map((one) => one.function).filter((number) => number < 0x40000000);
        equal(Math.max(...basic), last.eax, "the highest basic leaf");
        for (const one of t.hypervisor.emulatedCpuid()) ok(Number.isInteger(one.function), "an emulated leaf's number");
      },
    },
  ],
};

function leaf(number: number): CpuidEntry {
  return { function: number, index: 0, flags: 0, eax: 0, ebx: 0, ecx: 0, edx: 0 };
}

function withLeaf(entries: readonly CpuidEntry[], one: CpuidEntry): CpuidEntry[] {
  return [...entries.filter((entry) => entry.function !== one.function), one];
}

/** What the guest's cpuid answers. */
function answer(m: Machine, eax: number, ecx = 0): number[] {
  m.setRegs({ rax: BigInt(eax), rcx: BigInt(ecx) });
  m.expect(ExitReason.HLT);
  const regs = m.vcpu.getRegs();
  return [regs.rax, regs.rbx, regs.rcx, regs.rdx].map(Number);
}
