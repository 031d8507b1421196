/** Events that the monitor gives to a vCPU: interrupts without a chip (api.rst 4.16), and NMIs (4.64). */

import { ExitReason, Selector } from "../../src/index.ts";
import type { Group } from "../case.ts";
import { equal, refused } from "../check.ts";
import type { Context } from "../context.ts";
import { long, real } from "../guest.ts";
import { USER_STACK } from "../layout.ts";
import type { Machine } from "../machine.ts";

export const injection: Group = {
  name: "injection",
  cases: [
    {
      name: "a guest with interrupts enabled takes an injected one at once",
      guest: real`
        sti
        nop
        hlt
        inc cx
        hlt
      handler:
        inc bx
        iret`,
      run(t) {
        const m = t.machine();
        m.handle(0x40, "handler");
        m.expect(ExitReason.HLT);
        equal(m.vcpu.page.readyForInterruptInjection, true, "ready for an interrupt");
        m.vcpu.injectInterrupt(0x40);
        m.expect(ExitReason.HLT);
        const { rbx, rcx } = m.vcpu.getRegs();
        equal([rbx, rcx], [1n, 1n], "the handler ran once, and the guest went on behind the hlt");
      },
    },
    {
      name: "a guest with interrupts disabled is not ready; the window opens when it enables them",
      guest: real`
        out 0x10, al
        mov bx, 1
        sti
        nop
        mov bx, 2
        hlt
      handler:
        mov cx, bx
        hlt`,
      run(t) {
        const m = t.machine();
        m.handle(0x40, "handler");
        m.expectOut(0x10, 0);
        equal(m.vcpu.page.readyForInterruptInjection, false, "ready with the interrupt flag clear");
        openWindow(t, m);
        equal(m.vcpu.page.readyForInterruptInjection, true, "ready in the window");
        m.vcpu.injectInterrupt(0x40);
        m.expect(ExitReason.HLT);
        equal(m.vcpu.getRegs().rcx, 1n, "bx when the handler began: the window opened before its next change");
      },
    },
    {
      name: "the window opens when the guest returns to a ring 3 that may be interrupted",
      guest: long`
        out 0x10, al
        push ${Selector.USER_DATA}
        push ${USER_STACK}
        push 0x202
        push ${Selector.USER_CODE}
        lea rax, [below]
        push rax
        iretq
      below:
        jmp .
      handler:
        mov al, [rsp + 8]
        out 0x20, al`,
      run(t) {
        const m = t.machine();
        m.handle(0x40, "handler");
        m.expectOut(0x10, 0);
        openWindow(t, m);
        m.vcpu.injectInterrupt(0x40);
        m.expect(ExitReason.IO);
        equal(m.vcpu.page.io.value() & 3, 3, "the privilege level that was interrupted");
      },
    },
    {
      // Intel SDM vol. 2, STI: interrupts stay away for one instruction more, so that sti; hlt cannot miss one.
      name: "the window does not open between sti and the instruction after it",
      guest: real`
        out 0x10, al
        sti
        inc bx
        inc cx
        hlt`,
      run(t) {
        const m = t.machine();
        m.expectOut(0x10, 0);
        openWindow(t, m);
        const { rbx, rcx } = m.vcpu.getRegs();
        equal([rbx, rcx], [1n, 0n], "one instruction ran behind sti");
      },
    },
    {
      name: "an injected interrupt pushes flags, cs and ip, and clears the interrupt flag",
      guest: real`
        sti
        stc
        hlt
      behind:
        hlt
      handler:
        pop ax
        pop bx
        pop cx
        pushf
        pop dx
        hlt`,
      run(t) {
        const m = t.machine();
        m.handle(0xff, "handler");
        m.expect(ExitReason.HLT);
        m.vcpu.injectInterrupt(0xff);
        m.expect(ExitReason.HLT);
        const { rax, rbx, rcx, rdx } = m.vcpu.getRegs();
        equal([rax, rbx], [BigInt(m.at("behind")), 0n], "ip and cs");
        // Carry, the bit that is always 1, interrupts enabled.
        equal(rcx & 0x203n, 0x203n, "the flags on the stack");
        equal(rdx & 0x200n, 0n, "the interrupt flag in the handler");
      },
    },
    {
      name: "a vector above 255 is refused, and so is any where the chip is in the hypervisor",
      guest: real`hlt`,
      run(t) {
        refused(() => t.machine().vcpu.injectInterrupt(256), "KVM_REQUEST_FAILED", "a vector is 0 to 255");
        const chips = t.machine({ irqchip: "kernel" });
        refused(() => chips.vcpu.injectInterrupt(0x40), "KVM_REQUEST_FAILED", "injects for itself");
      },
    },
    {
      name: "an NMI comes through even with interrupts disabled",
      guest: real`
        cli
        hlt
        mov cx, 1
        hlt
      handler:
        mov bx, 2
        iret`,
      run(t) {
        const m = t.machine();
        m.handle(2, "handler");
        m.expect(ExitReason.HLT);
        m.vcpu.injectNmi();
        m.expect(ExitReason.HLT);
        const { rbx, rcx } = m.vcpu.getRegs();
        equal([rbx, rcx], [2n, 1n], "the handler ran, and the guest went on");
      },
    },
    {
      name: "a second NMI waits until the first one's handler has returned",
      guest: long`
        out 0x30, al
      again:
        hlt
        jmp again
      handler:
        inc ebx
        mov al, bl
        out 0x10, al
        mov al, 0xff
        out 0x18, al
        iretq`,
      run(t) {
        const m = t.machine({ irqchip: "kernel" });
        m.handle(2, "handler");
        m.expectOut(0x30, 0);
        m.vcpu.injectNmi();
        m.expectOut(0x10, 1);
        equal(m.vcpu.getEvents().nmi.masked, 1, "NMIs are masked in the handler");
        m.vcpu.injectNmi();
        m.expectOut(0x18, 0xff);
        m.expectOut(0x10, 2);
      },
    },
    {
      name: "a guest asleep in the hypervisor is woken by an NMI",
      guest: real`
        hlt
        jmp .
      handler:
        out 0x10, al`,
      run(t) {
        const m = t.machine({ irqchip: "kernel" });
        m.handle(2, "handler");
        m.vcpu.injectNmi();
        m.expectOut(0x10, 0);
      },
    },
  ],
};

/** Asks for an interrupt window and runs until it opens. */
function openWindow(t: Context, m: Machine): void {
  m.vcpu.page.requestInterruptWindow = true;
  const exit = m.exit();
  t.excuse(
    exit.reason === ExitReason.HLT,
    "interprets",
    "looks for an interrupt window only where it enters the guest",
  );
  equal(exit.reason, ExitReason.IRQ_WINDOW_OPEN, "the exit's reason");
  m.vcpu.page.requestInterruptWindow = false;
}
