/** Several vCPUs, each on its own thread. */

import { ExitReason, MpState } from "../../src/index.ts";
import type { Group } from "../case.ts";
import { equal } from "../check.ts";
import { long, real, user } from "../guest.ts";
import { CODE, DATA, MMIO, Port } from "../layout.ts";
import { Apic, apicHandler, ENABLE_APIC, tell } from "./interrupt-guests.ts";

const VECTOR = 0x51;
/** The second vCPU's stack, away from the first one's. */
const SECOND_STACK = 0x7800;
/** Bits of the interrupt command register (Intel SDM vol. 3, 11.6.1). */
const Icr = { NMI: 0x400, INIT: 0x500, STARTUP: 0x600, ASSERT: 0x4000, ALL_BUT_SELF: 0xc0000 } as const;
/** Where the second vCPU starts after SIPI: the vector is the page's number. */
const TRAMPOLINE = 0x50000;

/** Sends an interprocessor interrupt to one APIC, or by shorthand. */
const send = (command: number, apic = 0) => `
        mov dword ptr [rbp + ${Apic.ICR_HIGH}], ${apic * 2 ** 24}
        mov dword ptr [rbp + ${Apic.ICR_LOW}], ${command}`;

/** Enables its APIC, says so, and sleeps. */
const sleeper = `
      sleeper:
        ${ENABLE_APIC}
        mov al, 1
        ${tell(Port.READY)}
        sti
      sleep:
        hlt
        jmp sleep`;

export const smp: Group = {
  name: "smp",
  cases: [
    {
      // api.rst 4.38: without a chip in the hypervisor there is nothing that could start them later.
      name: "the first vCPU is runnable; others wait for INIT when the chip is in the hypervisor",
      guest: long`hlt`,
      async run(t) {
        const m = t.machine({ irqchip: "kernel" });
        equal(m.vcpu.getMpState(), MpState.RUNNABLE, "the first");
        const second = await t.thread(m, { id: 1, untouched: true });
        equal(await second.get("getMpState"), MpState.UNINITIALIZED, "the second");
      },
    },
    {
      name: "an interrupt from one vCPU to another",
      guest: long`
        ${ENABLE_APIC}
        ${send(VECTOR, 1)}
        mov al, 2
        ${tell(Port.DONE)}
        ${sleeper}
        ${apicHandler("handler", VECTOR)}`,
      async run(t) {
        const m = t.machine({ irqchip: "kernel" });
        m.handle(VECTOR, "handler");
        const second = await t.thread(m, { ...awake, rip: m.at("sleeper") });
        await second.expectOut(Port.READY, 1);
        const interrupted = second.expectOut(Port.VALUE, VECTOR);
        m.expectOut(Port.DONE, 2);
        await interrupted;
      },
    },
    {
      name: "an interrupt to all others by shorthand reaches each of them, and not the sender",
      guest: long`
        ${ENABLE_APIC}
        sti
        ${send(VECTOR | Icr.ALL_BUT_SELF)}
        ${tell(Port.CHECK)}
        mov al, 2
        ${tell(Port.DONE)}
        ${sleeper}
        ${apicHandler("handler", VECTOR)}`,
      async run(t) {
        const m = t.machine({ irqchip: "kernel" });
        m.handle(VECTOR, "handler");
        const others = [];
        for (const id of [1, 2]) {
          const rsp = SECOND_STACK - (id - 1) * 0x800;
          others.push(await t.thread(m, { ...awake, id, rip: m.at("sleeper"), rsp }));
        }
        for (const other of others) await other.expectOut(Port.READY, 1);
        const interrupted = others.map((other) => other.expectOut(Port.VALUE, VECTOR));
        m.expectOut(Port.CHECK, 0);
        m.expectOut(Port.DONE, 2);
        await Promise.all(interrupted);
      },
    },
    {
      name: "an NMI from one vCPU to another, whose interrupts are disabled",
      guest: long`
        ${ENABLE_APIC}
        ${send(Icr.NMI, 1)}
        mov al, 2
        ${tell(Port.DONE)}
      asleep:
        mov al, 1
        ${tell(Port.READY)}
        cli
        hlt
        jmp .
      handler:
        mov al, 3
        ${tell(Port.VALUE)}`,
      async run(t) {
        const m = t.machine({ irqchip: "kernel" });
        m.handle(2, "handler");
        const second = await t.thread(m, { ...awake, rip: m.at("asleep") });
        await second.expectOut(Port.READY, 1);
        const interrupted = second.expectOut(Port.VALUE, 3);
        m.expectOut(Port.DONE, 2);
        await interrupted;
      },
    },
    {
      // Intel SDM vol. 3, 9.4.4: real mode, cs:ip is vector * 0x100 : 0.
      name: "INIT and SIPI start a vCPU in real mode at the vector's page",
      guest: long`
        ${ENABLE_APIC}
        ${send(Icr.INIT | Icr.ASSERT, 1)}
        ${send(Icr.STARTUP | (TRAMPOLINE >> 12), 1)}
        mov al, 2
        ${tell(Port.DONE)}`,
      guests: {
        started: real`
        mov ax, cs
        mov dx, ${Port.VALUE}
        out dx, ax
        mov eax, cr0
        out dx, al`,
      },
      async run(t) {
        const m = t.machine({ irqchip: "kernel" });
        m.bytes.set(t.assembled("started").code, TRAMPOLINE);
        const second = await t.thread(m, { id: 1, untouched: true });
        const started = second.expectOut(Port.VALUE, TRAMPOLINE >> 4);
        m.expectOut(Port.DONE, 2);
        await started;
        equal(await second.get("getMpState"), MpState.RUNNABLE, "the second vCPU's state");
        const exit = await second.run();
        const value = exit.reason === ExitReason.IO ? exit.values[0]! : -1;
        equal(value & 1, 0, "CR0.PE there");
      },
    },
    {
      name: "locked additions of two vCPUs add up",
      guest: user`
        mov ecx, [${DATA + 8}]
      again:
        lock inc dword ptr [${DATA}]
        inc dword ptr [${DATA + 0x1000} + rsi * 4]
        dec ecx
        jnz again
        mov rdi, ${MMIO}
        mov [rdi], cl
        jmp .`,
      async run(t) {
        const ROUNDS = 20_000;
        const m = t.machine({ vcpus: 0 });
        m.view.setUint32(DATA + 8, ROUNDS, true);
        const first = await t.thread(m, { id: 0 });
        const second = await t.thread(m, { id: 1, mpState: MpState.RUNNABLE });
        const exits = await Promise.all([first.run(), second.run()]);
        for (const exit of exits) equal(exit.reason, ExitReason.MMIO, "each vCPU's exit");
        equal(m.u32(DATA), 2 * ROUNDS, "the counter");
      },
    },
    {
      name: "a vCPU sees what another one writes, in order",
      guest: user`
        mov ecx, 1
      next:
        mov [${DATA}], ecx
        mov [${DATA + 64}], ecx
        inc ecx
        cmp ecx, 5000
        jne next
        mov rdi, ${MMIO}
        mov [rdi], al
        jmp .
      reader:
        mov eax, [${DATA + 64}]
        mov ebx, [${DATA}]
        cmp ebx, eax
        jb wrong
        cmp eax, 4999
        jne reader
      wrong:
        mov rdi, ${MMIO}
        mov [rdi], eax
        jmp .`,
      async run(t) {
        const m = t.machine({ vcpus: 0 });
        const writer = await t.thread(m, { id: 0 });
        const reader = await t.thread(m, { id: 1, mpState: MpState.RUNNABLE, rip: m.at("reader") });
        const [, seen] = await Promise.all([writer.run(), reader.run()]);
        // x86 keeps the order of stores and of loads: the first word is never older than the second.
        equal(seen.reason === ExitReason.MMIO && seen.value, 4999n, "the last value that the reader saw in order");
      },
    },
    {
      name: "two machines at once do not touch each other",
      guest: long`
        mov rax, [${DATA}]
        add rax, 1
        mov [${DATA}], rax
        out 0x10, al
        hlt`,
      run(t) {
        const first = t.machine();
        const second = t.machine();
        first.view.setBigUint64(DATA, 10n, true);
        second.view.setBigUint64(DATA, 20n, true);
        first.expectOut(0x10, 11);
        second.expectOut(0x10, 21);
        first.expect(ExitReason.HLT);
        second.expect(ExitReason.HLT);
        equal([first.u64(DATA), second.u64(DATA)], [11n, 21n], "the counters");
      },
    },
    {
      name: "each vCPU's own registers and CPUID: the APIC id tells them apart",
      guest: long`
        ${ENABLE_APIC}
        mov eax, [rbp + 0x20]
        shr eax, 24
        ${tell(Port.VALUE)}`,
      async run(t) {
        const m = t.machine({ irqchip: "kernel" });
        const second = await t.thread(m, { ...awake, rip: CODE });
        m.expectOut(Port.VALUE, 0);
        await second.expectOut(Port.VALUE, 1);
      },
    },
  ],
};

/** A second vCPU that does not wait for INIT and SIPI. */
const awake = { id: 1, rsp: SECOND_STACK, mpState: MpState.RUNNABLE } as const;
