/** How a guest stops by itself: KVM_EXIT_HLT and KVM_EXIT_SHUTDOWN (api.rst section 5). */

import { ExitReason } from "../../src/index.ts";
import type { Group } from "../case.ts";
import { equal } from "../check.ts";
import { long, protected32, real } from "../guest.ts";

export const stops: Group = {
  name: "stops",
  cases: [
    {
      // Without an interrupt chip in the hypervisor nobody there could wake the guest.
      name: "hlt exits, and the next run goes on behind it",
      guest: real`
        mov ax, 1
        hlt
      first:
        mov ax, 2
        hlt
      second:`,
      run(t) {
        const m = t.machine();
        for (const [label, rax] of [
          ["first", 1n],
          ["second", 2n],
        ] as const) {
          m.expect(ExitReason.HLT);
          const regs = m.vcpu.getRegs();
          equal({ rip: regs.rip, rax: regs.rax }, { rip: BigInt(m.at(label)), rax }, "the registers at the hlt");
        }
      },
    },
    {
      name: "the exit says whether interrupts are enabled",
      guest: real`
        hlt
        sti
        hlt`,
      run(t) {
        const m = t.machine();
        m.expect(ExitReason.HLT);
        equal(m.vcpu.page.ifFlag, false, "the interrupt flag before sti");
        m.expect(ExitReason.HLT);
        equal(m.vcpu.page.ifFlag, true, "the interrupt flag after sti");
      },
    },
    {
      name: "an exception without a handler is a triple fault: shutdown",
      guest: long`
        ud2
        hlt`,
      run(t) {
        t.machine().expect(ExitReason.SHUTDOWN);
      },
    },
    {
      name: "an interrupt table of no size is a triple fault in protected mode too",
      guest: protected32`
        lidt [none]
        ud2
        hlt
      none:
        .word 0
        .long 0`,
      run(t) {
        t.machine().expect(ExitReason.SHUTDOWN);
      },
    },
    {
      name: "a handler that faults leads to the double fault's, whose error code is 0",
      guest: long`
        mov qword ptr [rsp], 0
        ud2
      double:
        pop rax
        mov bl, 1
        hlt`,
      run(t) {
        const m = t.machine();
        // The gate of #UD is not present, which is a #NP while a #UD is delivered: contributory exceptions, but #UD is
        // benign (Intel SDM vol. 3, table 6-5), so the #NP is delivered; it has no handler, and two contributory ones are
        // a double fault.
        m.handle(8, "double");
        m.expect(ExitReason.HLT);
        const { rax, rbx } = m.vcpu.getRegs();
        equal({ rax, rbx }, { rax: 0n, rbx: 1n }, "the double fault's error code, and its handler's mark");
      },
    },
    {
      name: "a guest that was shut down can be set up anew and run again",
      guest: protected32`
        ud2
      again:
        mov eax, 0x600d
        hlt`,
      run(t) {
        const m = t.machine();
        m.expect(ExitReason.SHUTDOWN);
        m.reset("again");
        m.expect(ExitReason.HLT);
        equal(m.vcpu.getRegs().rax, 0x600dn, "rax");
      },
    },
  ],
};
