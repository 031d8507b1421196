/** Fast ways between the rings: syscall and sysret, swapgs, and what ring 3 sees of the descriptor tables. */

import { Efer, ExitReason } from "../../src/index.ts";
import type { Group } from "../case.ts";
import { equal } from "../check.ts";
import { long, user } from "../guest.ts";
import { DATA, MMIO, USER_STACK } from "../layout.ts";
import type { Machine } from "../machine.ts";
import { SYSRET_BASE } from "../tables.ts";

/** MSRs of AMD's long mode (AMD APM vol. 2, 6.1). */
const Msr = { STAR: 0xc0000081, LSTAR: 0xc0000082, FMASK: 0xc0000084, GS_BASE: 0xc0000101, KERNEL_GS_BASE: 0xc0000102 };

export const rings: Group = {
  name: "rings",
  cases: [
    {
      name: "syscall enters ring 0 at LSTAR with rip in rcx and flags in r11; sysret goes back",
      guest: user`
        mov eax, 39
        stc
        syscall
      behind:
        mov rdi, ${MMIO}
        mov [rdi], rax
        jmp .
      kernel:
        mov rbx, rcx
        mov rsi, r11
        mov ebp, cs
        pushfq
        pop r8
        add rax, 3
        sysretq`,
      run(t) {
        const m = t.machine();
        allowSyscall(m);
        // The kernel's stack is ring 3's: syscall does not change rsp.
        const exit = m.exit();
        const stayed = exit.reason === ExitReason.SHUTDOWN && (m.vcpu.getRegs().rbp & 3n) === 3n;
        t.excuse(stayed, "interprets", "stays in ring 3 at a syscall");
        equal(exit, { reason: ExitReason.MMIO, write: true, address: MMIO, length: 8, value: 42n }, "the exit");
        const { rbx, rsi, rbp, r8, rsp } = m.vcpu.getRegs();
        equal({ rcx: rbx, cpl: rbp & 3n, rsp }, { rcx: BigInt(m.at("behind")), cpl: 0n, rsp: BigInt(USER_STACK) }, "");
        equal(rsi & 1n, 1n, "the carry flag, saved in r11");
        equal(r8 & 1n, 0n, "the carry flag in ring 0, cleared by FMASK");
      },
    },
    {
      name: "syscall without EFER.SCE is undefined",
      guest: user`
      culprit:
        syscall
        jmp .
      handler:
        pop rax
        hlt`,
      run(t) {
        const m = t.machine();
        m.handle(6, "handler");
        // LSTAR is 0. A hlt there stops a guest that gets that far.
        m.bytes[0] = 0xf4;
        const exit = m.exit();
        t.excuse(m.vcpu.getRegs().rip < 2n, "interprets", "lets ring 3 use syscall without EFER.SCE");
        equal(exit, { reason: ExitReason.HLT }, "the exit");
        equal(m.vcpu.getRegs().rax, BigInt(m.at("culprit")), "the rip that the handler finds");
      },
    },
    {
      name: "swapgs exchanges GS's base with KERNEL_GS_BASE",
      guest: long`
        swapgs
        mov rax, gs:[8]
        swapgs
        mov rbx, gs:[8]
        hlt`,
      run(t) {
        const m = t.machine();
        m.vcpu.setMsrs([
          { index: Msr.GS_BASE, data: BigInt(DATA) },
          { index: Msr.KERNEL_GS_BASE, data: BigInt(DATA + 0x1000) },
        ]);
        m.view.setBigUint64(DATA + 8, 0x1111n, true);
        m.view.setBigUint64(DATA + 0x1008, 0x2222n, true);
        m.expect(ExitReason.HLT);
        const { rax, rbx } = m.vcpu.getRegs();
        equal({ rax, rbx }, { rax: 0x2222n, rbx: 0x1111n }, "what gs:8 held");
      },
    },
    {
      name: "ring 3 may not write control registers or MSRs, nor load tables",
      guest: user`
      one:
        mov cr3, rax
      two:
        wrmsr
      three:
        lgdt [rsp]
      four:
        cli
      five:
        jmp .
      handler:
        pop rax
        pop rbx
        mov dx, 0x60
        out dx, al
        mov rbx, [rdi]
        add rdi, 8
        push rbx
        iretq`,
      run(t) {
        const m = t.machine();
        m.handle(13, "handler");
        const labels = ["one", "two", "three", "four", "five"];
        // The handler goes on at the next instruction, whose address it finds at rdi.
        labels.forEach((label, index) => {
          m.view.setBigUint64(DATA + index * 8, BigInt(m.at(label)), true);
        });
        m.setRegs({ rdi: BigInt(DATA + 8) });
        for (const label of labels.slice(0, 4)) {
          m.expectOut(0x60, 0);
          equal(m.vcpu.getRegs().rbx, BigInt(m.at(label)), "the faulting instruction");
        }
      },
    },
  ],
};

function allowSyscall(m: Machine): void {
  const sregs = m.vcpu.getSregs();
  m.vcpu.setSregs({ ...sregs, efer: sregs.efer | Efer.SCE });
  m.vcpu.setMsrs([
    { index: Msr.STAR, data: (BigInt(SYSRET_BASE) << 48n) | (8n << 32n) },
    { index: Msr.LSTAR, data: BigInt(m.at("kernel")) },
    { index: Msr.FMASK, data: 1n },
  ]);
}
