/** Interrupt lines into the PICs and the IOAPIC: KVM_CREATE_IRQCHIP (api.rst 4.24) and KVM_IRQ_LINE (4.25). */

import { ExitReason, Irqchip } from "../../src/index.ts";
import type { Group } from "../case.ts";
import { equal, ok } from "../check.ts";
import { long, real } from "../guest.ts";
import { Port } from "../layout.ts";
import type { Machine } from "../machine.ts";
import {
  Apic,
  apicHandler,
  ENABLE_APIC,
  mustBeInService,
  Pin,
  setIoapicPin,
  setPics,
  tell,
} from "./interrupt-guests.ts";

/** A line that only the IOAPIC has, so that the PICs do not count in the delivery status. */
const LINE = 20;
const VECTOR = 0x51;

export const interrupts: Group = {
  name: "interrupts",
  cases: [
    {
      // The first vCPU's LINT0 takes the PICs' interrupts from the start (KVM_X86_QUIRK_LINT0_REENABLED of 7.31).
      name: "PIC: an edge interrupts once, however long the line stays up",
      guest: real`
        ${setPics(0xf7)}
        ${tell(Port.READY)}
        sti
        hlt
        ${tell(Port.CHECK)}
        ${tell(Port.DONE)}
      handler:
        push ax
        mov al, 0x23
        out 0x77, al
        mov al, 0x20
        out 0x20, al
        pop ax
        iret`,
      run(t) {
        const m = t.machine({ irqchip: "kernel" });
        m.handle(0x23, "handler");
        m.expectOut(Port.READY, 0xff);
        m.vm.setIrqLine(3, true);
        m.expectOut(0x77, 0x23);
        m.expectOut(Port.CHECK, 0xff);
        m.expectOut(Port.DONE, 0xff);
        const { isr, irqBase, imr } = m.vm.getPic(Irqchip.PIC_MASTER);
        equal({ isr, irqBase, imr }, { isr: 0, irqBase: 0x20, imr: 0xf7 }, "the master PIC after the EOI");
      },
    },
    {
      name: "PIC: a level-triggered line interrupts again until it is lowered",
      guest: real`
        ${setPics(0xd7)}
        mov dx, 0x4d0
        mov al, 8
        out dx, al
        ${tell(Port.READY)}
        sti
      again:
        hlt
        jmp again
      handler:
        inc bl
        mov al, bl
        out 0x77, al
        mov al, 0x20
        out 0x20, al
        iret
      lower:
        mov al, 0xff
        out 0x77, al`,
      run(t) {
        const m = t.machine({ irqchip: "kernel" });
        m.handle(0x23, "handler");
        m.handle(0x25, "lower");
        m.expectOut(Port.READY, 8);
        m.vm.setIrqLine(3, true);
        m.expectOut(0x77, 1);
        m.expectOut(0x77, 2);
        m.expectOut(0x77, 3);
        m.vm.setIrqLine(3, false);
        // Line 5 has the lower priority: it would have to wait if line 3 still interrupted.
        m.vm.setIrqLine(5, true);
        m.expectOut(0x77, 0xff);
      },
    },
    {
      name: "PIC: a line of the slave comes through the master's line 2",
      guest: real`
        ${setPics(0xfb, 0xfb)}
        ${tell(Port.READY)}
        sti
        hlt
      handler:
        in al, 0x60
        mov al, 0x2a
        out 0x77, al`,
      run(t) {
        const m = t.machine({ irqchip: "kernel" });
        m.handle(0x2a, "handler");
        m.expectOut(Port.READY, 0xfb);
        m.vm.setIrqLine(10, true);
        m.answerIn(0x60, 0);
        equal(m.vm.getPic(Irqchip.PIC_MASTER).isr, 1 << 2, "the master's lines in service");
        equal(m.vm.getPic(Irqchip.PIC_SLAVE).isr, 1 << 2, "the slave's lines in service");
        m.expectOut(0x77, 0x2a);
      },
    },
    {
      name: "IOAPIC: an edge becomes one interrupt; the status tells delivered from merged and masked",
      guest: long`
        ${ENABLE_APIC}
        ${setIoapicPin(LINE, VECTOR)}
        mov al, 1
        ${tell(Port.READY)}
        sti
        hlt
        mov al, 2
        ${tell(Port.CHECK)}
        ${tell(Port.DONE)}
        ${apicHandler("handler", VECTOR)}`,
      run(t) {
        const m = t.machine({ irqchip: "kernel" });
        m.handle(VECTOR, "handler");
        ok(m.vm.setIrqLine(LINE, true) < 0, "a masked pin: below 0");
        m.vm.setIrqLine(LINE, false);
        m.expectOut(Port.READY, 1);
        ok(m.vm.setIrqLine(LINE, true) > 0, "the edge is delivered: above 0");
        equal(m.vm.setIrqLine(LINE, true), 0, "raising a line that is up already is no edge");
        m.vm.setIrqLine(LINE, false);
        m.expectOut(Port.VALUE, VECTOR);
        m.expectOut(Port.CHECK, 2);
        m.expectOut(Port.DONE, 2);
      },
    },
    {
      name: "IOAPIC: a level-triggered pin stays in service until the EOI, and interrupts again while the line is up",
      guest: long`
        ${ENABLE_APIC}
        ${setIoapicPin(LINE, VECTOR | Pin.LEVEL)}
        ${tell(Port.READY)}
        sti
      again:
        hlt
        jmp again
        ${apicHandler("handler", VECTOR)}
        ${apicHandler("lower", 0x41)}`,
      run(t) {
        const m = t.machine({ irqchip: "kernel" });
        m.handle(VECTOR, "handler");
        m.handle(0x41, "lower");
        const inService = () => (Number(m.vm.getIoapic().redirtbl[LINE]! & 0xffffffffn) & Pin.REMOTE_IRR) !== 0;
        m.expect(ExitReason.IO);
        m.vm.setIrqLine(LINE, true);
        m.expectOut(Port.VALUE, VECTOR);
        mustBeInService(t, m, VECTOR);
        equal(inService(), true, "remote IRR in the handler");
        m.expectOut(Port.VALUE, VECTOR);
        m.vm.setIrqLine(LINE, false);
        // A lower vector: it would have to wait if the pin still interrupted.
        message(m, 0x41);
        m.expectOut(Port.VALUE, 0x41);
        equal(inService(), false, "remote IRR after the EOI");
      },
    },
    {
      name: "IOAPIC: the guest reads back what it wrote, and the monitor sees it",
      guest: long`
        ${ENABLE_APIC}
        ${setIoapicPin(LINE, VECTOR | Pin.LEVEL | Pin.MASKED)}
        mov eax, [r12 + 0x10]
        mov dx, ${Port.VALUE}
        out dx, eax
        mov dword ptr [r12], 1
        mov eax, [r12 + 0x10]
        out dx, eax`,
      run(t) {
        const m = t.machine({ irqchip: "kernel" });
        m.expectOut(Port.VALUE, VECTOR | Pin.LEVEL | Pin.MASKED, 4);
        equal(m.vm.getIoapic().redirtbl[LINE], BigInt(VECTOR | Pin.LEVEL | Pin.MASKED), "the entry");
        // 24 entries; version 0x11 (82093AA) or 0x20 (with an EOI register).
        const exit = m.exit();
        ok(exit.reason === ExitReason.IO && (exit.values[0]! & 0xff0000) === 0x170000, "the last entry's number is 23");
      },
    },
    {
      name: "the higher vector goes first; the task priority holds back lower ones",
      guest: long`
        ${ENABLE_APIC}
        mov eax, 5
        mov cr8, rax
        ${tell(Port.READY)}
        sti
      again:
        hlt
        jmp again
        ${apicHandler("high", 0x71)}
      middle:
        mov al, 0x61
        ${tell(Port.VALUE)}
        mov dword ptr [rbp + ${Apic.EOI}], 0
        xor eax, eax
        mov cr8, rax
        iretq
        ${apicHandler("low", 0x41)}`,
      run(t) {
        const m = t.machine({ irqchip: "kernel" });
        m.handle(0x41, "low");
        m.handle(0x61, "middle");
        m.handle(0x71, "high");
        m.expectOut(Port.READY, 5);
        for (const vector of [0x41, 0x61, 0x71]) message(m, vector);
        m.expectOut(Port.VALUE, 0x71);
        m.expectOut(Port.VALUE, 0x61);
        equal(m.vcpu.getSregs().cr8, 5n, "the priority");
        m.expectOut(Port.VALUE, 0x41);
        equal(m.vcpu.getSregs().cr8, 0n, "the priority, which the middle one's handler has lowered");
      },
    },
    {
      name: "an interrupt that waits shows in the local APIC's registers, one in service too",
      guest: long`
        ${ENABLE_APIC}
        ${tell(Port.READY)}
        sti
        hlt
        jmp .
        ${apicHandler("handler", VECTOR)}`,
      run(t) {
        const m = t.machine({ irqchip: "kernel" });
        m.handle(VECTOR, "handler");
        m.expect(ExitReason.IO);
        message(m, VECTOR);
        // Vector n is bit n % 32 of the register n / 32, and registers are 16 bytes apart.
        const bit = (base: number) => {
          const view = new DataView(m.vcpu.getLapic().buffer);
          return (view.getUint32(base + (VECTOR >> 5) * 16, true) >> (VECTOR & 31)) & 1;
        };
        equal([bit(Apic.IRR), bit(Apic.ISR)], [1, 0], "requested and in service before the guest takes it");
        m.expectOut(Port.VALUE, VECTOR);
        mustBeInService(t, m, VECTOR);
        equal([bit(Apic.IRR), bit(Apic.ISR)], [0, 1], "requested and in service in the handler");
      },
    },
  ],
};

/** A fixed interrupt to APIC 0. */
function message(m: Machine, vector: number): void {
  m.vm.signalMsi({ addressLo: 0xfee00000, addressHi: 0, data: vector, flags: 0, devid: 0 });
}
