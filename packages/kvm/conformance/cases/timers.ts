/** Timers in the hypervisor: the local APIC's (Intel SDM vol. 3, 11.5.4) and the 8254 (api.rst 4.71). */

import { Capability, ExitReason } from "../../src/index.ts";
import { type Group, type Host, needs } from "../case.ts";
import { equal, ok } from "../check.ts";
import { long, real } from "../guest.ts";
import { DATA, Port } from "../layout.ts";
import { Apic, apicHandler, ENABLE_APIC, setPics, tell } from "./interrupt-guests.ts";

const VECTOR = 0x51;
const PERIODIC = 1 << 17;
const DEADLINE = 2 << 17;
const MSR_TSC_DEADLINE = 0x6e0;
const NEW_BRANCHES = 16384;

/** CPUID 1.ECX[24], which KVM leaves to the monitor to add (api.rst 4.46). */
function withDeadline(host: Host) {
  return host.hypervisor
    .supportedCpuid()
    .map((leaf) => (leaf.function === 1 ? { ...leaf, ecx: (leaf.ecx | (1 << 24)) >>> 0 } : leaf));
}

/** Starts the APIC's timer once and sleeps. */
const oneShot = long`
        ${ENABLE_APIC}
        mov dword ptr [rbp + ${Apic.TIMER_DIVIDE}], 0xb
        mov dword ptr [rbp + ${Apic.LVT_TIMER}], ${VECTOR}
        mov dword ptr [rbp + ${Apic.TIMER_COUNT}], 20000
        sti
        hlt
        mov eax, [rbp + 0x390]
        ${tell(Port.DONE)}
        ${apicHandler("handler", VECTOR)}`;

export const timers: Group = {
  name: "timers",
  cases: [
    {
      name: "local APIC: a one-shot timer fires once, and its count is then 0",
      guest: oneShot,
      run(t) {
        const m = t.machine({ irqchip: "kernel" });
        m.handle(VECTOR, "handler");
        m.expectOut(Port.VALUE, VECTOR);
        m.expectOut(Port.DONE, 0);
      },
    },
    {
      name: "a sleeping guest is woken however long the host polls before it sleeps too",
      unsupported: needs(Capability.HALT_POLL),
      guest: oneShot,
      run(t) {
        for (const ns of [0, 200_000]) {
          const m = t.machine({ irqchip: "kernel" });
          m.vm.setHaltPollNs(ns);
          m.handle(VECTOR, "handler");
          m.expectOut(Port.VALUE, VECTOR);
        }
      },
    },
    {
      name: "local APIC: a periodic timer goes on by itself",
      guest: long`
        ${ENABLE_APIC}
        mov dword ptr [rbp + ${Apic.TIMER_DIVIDE}], 0xb
        mov dword ptr [rbp + ${Apic.LVT_TIMER}], ${VECTOR | PERIODIC}
        mov dword ptr [rbp + ${Apic.TIMER_COUNT}], 1000000
        sti
      again:
        hlt
        jmp again
        ${apicHandler("handler", VECTOR)}`,
      run(t) {
        const m = t.machine({ irqchip: "kernel" });
        m.handle(VECTOR, "handler");
        for (let times = 0; times < 3; times++) m.expectOut(Port.VALUE, VECTOR);
      },
    },
    {
      // A processor in software learns a branch's way when it is first taken, and must not take an interrupt's for it.
      name: "local APIC: interrupts among branches that are taken for the first time come back, and are not met again",
      guest: long`
        ${ENABLE_APIC}
        mov edi, ${DATA}
        mov ecx, ${NEW_BRANCHES}
        mov ax, 0x00eb                  # jmp to the next instruction
        rep stosw
        mov byte ptr [rdi], 0xc3        # ret
        xor ebx, ebx
        mov dword ptr [rbp + ${Apic.TIMER_DIVIDE}], 0xb
        mov dword ptr [rbp + ${Apic.LVT_TIMER}], ${VECTOR | PERIODIC}
        mov dword ptr [rbp + ${Apic.TIMER_COUNT}], 50000
        mov esi, ${DATA}
        sti
        call rsi
        cli
        mov dword ptr [rbp + ${Apic.TIMER_COUNT}], 0
        mov r15, rbx
        call rsi
        ${tell(Port.DONE)}
      handler:
        inc rbx
        mov dword ptr [rbp + ${Apic.EOI}], 0
        iretq`,
      run(t) {
        const m = t.machine({ irqchip: "kernel" });
        m.handle(VECTOR, "handler");
        m.expect(ExitReason.IO);
        const { rip, rbx, r15 } = m.vcpu.getRegs();
        ok(rip <= BigInt(m.at("handler")), "the guest is behind both rows of branches");
        equal(rbx, r15, "interrupts, after the row without them");
      },
    },
    {
      name: "local APIC: a masked timer counts down without an interrupt",
      guest: long`
        ${ENABLE_APIC}
        mov dword ptr [rbp + ${Apic.TIMER_DIVIDE}], 0xb
        mov dword ptr [rbp + ${Apic.LVT_TIMER}], ${VECTOR | (1 << 16)}
        mov dword ptr [rbp + ${Apic.TIMER_COUNT}], 1000
        sti
      again:
        mov eax, [rbp + 0x390]
        test eax, eax
        jnz again
        ${tell(Port.DONE)}
        ${apicHandler("handler", VECTOR)}`,
      run(t) {
        const m = t.machine({ irqchip: "kernel" });
        m.handle(VECTOR, "handler");
        m.expectOut(Port.DONE, 0);
      },
    },
    {
      name: "local APIC: a TSC deadline fires, not before that time, and disarms itself",
      unsupported: needs(Capability.TSC_DEADLINE_TIMER),
      guest: long`
        ${ENABLE_APIC}
        mov dword ptr [rbp + ${Apic.LVT_TIMER}], ${VECTOR | DEADLINE}
        rdtsc
        shl rdx, 32
        or rax, rdx
        add rax, 1000000
        mov rbx, rax
        mov rdx, rax
        shr rdx, 32
        mov ecx, ${MSR_TSC_DEADLINE}
        wrmsr
        sti
        hlt
        jmp .
      handler:
        rdtsc
        shl rdx, 32
        or rax, rdx
        mov rsi, rax
        mov ecx, ${MSR_TSC_DEADLINE}
        rdmsr
        mov rdi, rax
        ${tell(Port.DONE)}`,
      run(t) {
        const m = t.machine({ irqchip: "kernel", cpuid: withDeadline(t.host) });
        m.handle(VECTOR, "handler");
        m.expect(ExitReason.IO);
        const { rbx: deadline, rsi: time, rdi: armed } = m.vcpu.getRegs();
        ok(time >= deadline, `the interrupt came at ${time}, before its deadline ${deadline}`);
        equal(armed, 0n, "the deadline in the handler");
      },
    },
    {
      name: "8254: channel 0 interrupts on line 0",
      guest: real`
        ${setPics(0xfe)}
        mov al, 0x30
        out 0x43, al
        mov al, 0
        out 0x40, al
        mov al, 0x10
        out 0x40, al
        sti
      again:
        hlt
        jmp again
      handler:
        mov al, 0x20
        out 0x20, al
        ${tell(Port.DONE)}`,
      run(t) {
        const m = t.machine({ irqchip: "kernel", beforeVcpus: (vm) => vm.createPit() });
        m.handle(0x20, "handler");
        m.expectOut(Port.DONE, 0x20);
        const [channel] = m.vm.getPit().channels;
        // Mode 0, interrupt on terminal count (8254 datasheet).
        equal({ count: channel?.count, mode: channel?.mode }, { count: 0x1000, mode: 0 }, "channel 0");
      },
    },
    {
      name: "8254: port 0x61 is the monitor's, unless the PIT has the speaker",
      guest: real`
        in al, 0x61
        out 0x10, al
        hlt`,
      run(t) {
        const without = t.machine({ irqchip: "kernel", beforeVcpus: (vm) => vm.createPit() });
        without.answerIn(0x61, 0x5a);
        without.expectOut(0x10, 0x5a);
        const withSpeaker = t.machine({ irqchip: "kernel", beforeVcpus: (vm) => vm.createPit({ speaker: true }) });
        const exit = withSpeaker.exit();
        ok(exit.reason === ExitReason.IO && exit.out && exit.port === 0x10, "the first exit is the write that follows");
      },
    },
  ],
};
