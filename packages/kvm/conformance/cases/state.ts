/** A guest is stopped, saved, restored into a fresh machine and goes on bit for bit: saveVcpu and restoreVcpu. */

import {
  Capability,
  Cr4,
  ExitReason,
  type GuestMemory,
  Irqchip,
  restoreVcpu,
  saveVcpu,
  type VcpuState,
} from "../../src/index.ts";
import { type Group, needs } from "../case.ts";
import { equal, refused } from "../check.ts";
import type { Context } from "../context.ts";
import { long, real, user } from "../guest.ts";
import { DATA, MMIO, Port } from "../layout.ts";
import type { Machine } from "../machine.ts";
import { Apic, apicHandler, ENABLE_APIC, Pin, setIoapicPin, tell } from "./interrupt-guests.ts";

const VECTOR = 0x51;

/** Mixes general, x87 and SSE registers and memory; each round ends in a write to MMIO. Ring 3, so it runs at full speed. */
const mixer = user`
        mov rdi, ${MMIO}
        mov rax, 0x9e3779b97f4a7c15
        mov rbx, 1
        fldpi
        fld1
        movq xmm0, rax
        movq xmm1, rbx
      round:
        mov ecx, 50
      mix:
        mov rdx, rax
        shl rdx, 13
        xor rax, rdx
        mov rdx, rax
        shr rdx, 7
        xor rax, rdx
        rol rbx, 3
        adc rbx, rax
        mov r8, rax
        and r8, 0xff8
        add [${DATA} + r8], rbx
        movq xmm2, rax
        paddq xmm0, xmm2
        pxor xmm1, xmm0
        pshufd xmm3, xmm1, 0x1b
        fadd st(1), st
        fxch
        fsqrt
        mov [${DATA + 0x1000}], rdx
        fild qword ptr [${DATA + 0x1000}]
        faddp
        dec ecx
        jnz mix
        inc r9
        mov [rdi], r9
        jmp round`;

const ROUNDS = 20;

export const state: Group = {
  name: "state",
  cases: [
    {
      // api.rst 4.114: the header says how long it is; nothing runs nested here, so it is the processor's empty one.
      name: "a nested guest's state goes into a fresh vCPU and comes out the same; one cut short is refused",
      unsupported: needs(Capability.NESTED_STATE),
      guest: real`hlt`,
      run(t) {
        const state = t.machine().vcpu.getNestedState()!;
        const other = t.machine().vcpu;
        other.setNestedState(state);
        equal(other.getNestedState(), state, "the state");
        for (const length of [0, 8, state.length - 1]) {
          refused(
            () => other.setNestedState(state.slice(0, length)),
            "KVM_INVALID",
            "shorter than its own header says",
          );
        }
      },
    },
    {
      name: "a computation over all registers and memory goes on bit for bit",
      guest: mixer,
      run(t) {
        const straight = t.machine();
        advance(straight, 0, ROUNDS);
        const before = t.machine();
        advance(before, 0, ROUNDS / 2);
        const after = t.machine({ memory: copy(t, before) });
        restoreVcpu(after.vcpu, saved(t, before));
        advance(after, ROUNDS / 2, ROUNDS);
        equal(after.vcpu.getRegs(), straight.vcpu.getRegs(), "the general registers");
        equal(after.vcpu.getFpu(), straight.vcpu.getFpu(), "the x87 and SSE registers");
        equal(after.bytes.subarray(DATA), straight.bytes.subarray(DATA), "memory");
      },
    },
    {
      name: "what was restored is what was saved",
      guest: mixer,
      run(t) {
        const before = t.machine({ irqchip: "kernel" });
        advance(before, 0, 3);
        const sregs = before.vcpu.getSregs();
        before.vcpu.setSregs({ ...sregs, cr2: 0x1234000n, cr4: sregs.cr4 | Cr4.OSXSAVE });
        before.vcpu.setDebugRegs({ ...before.vcpu.getDebugRegs(), db: [1n, 2n, 3n, 4n] });
        const first = saved(t, before);
        const after = t.machine({ irqchip: "kernel", memory: copy(t, before) });
        restoreVcpu(after.vcpu, first);
        const second = saved(t, after);
        equal(withoutTime(second), withoutTime(first), "the state");
      },
    },
    {
      // api.rst 5, KVM_EXIT_IO: the access is complete only after the next run, so saving completes it first.
      name: "an input that was answered is complete in what is saved",
      guest: real`
        in al, 0x10
        mov bl, al
        out 0x20, al
        hlt`,
      run(t) {
        const before = t.machine();
        before.answerIn(0x10, 0x77);
        const after = t.machine({ memory: copy(t, before) });
        restoreVcpu(after.vcpu, saved(t, before));
        after.expectOut(0x20, 0x77);
        equal(after.vcpu.getRegs().rbx & 0xffn, 0x77n, "bl");
      },
    },
    {
      name: "a repeated output goes on where it stopped",
      guest: real`
        mov si, offset text
        mov cx, 6
        mov dx, 0x3f8
        rep outsb
        hlt
      text:
        .ascii "resume"`,
      run(t) {
        const before = t.machine();
        const letters: number[] = [];
        const collect = (m: Machine) => {
          const exit = m.exit();
          if (exit.reason === ExitReason.IO) letters.push(...exit.values);
          return exit.reason === ExitReason.IO;
        };
        collect(before);
        const after = t.machine({ memory: copy(t, before) });
        restoreVcpu(after.vcpu, saved(t, before));
        while (collect(after));
        equal(String.fromCharCode(...letters), "resume", "the output of both machines together");
      },
    },
    {
      name: "a halted vCPU is halted in the copy, and is woken there",
      unsupported: needs(Capability.IRQCHIP),
      guest: long`
        ${ENABLE_APIC}
        ${setIoapicPin(20, VECTOR)}
        sti
        ${tell(Port.READY)}
      again:
        hlt
        jmp again
        ${apicHandler("handler", VECTOR)}`,
      async run(t) {
        const before = t.machine({ irqchip: "kernel" });
        before.handle(VECTOR, "handler");
        before.expectOut(Port.READY, 0);
        const after = t.machine({ irqchip: "kernel", memory: copy(t, before) });
        restoreVcpu(after.vcpu, saved(t, before));
        copyChips(before, after);
        equal(after.vm.getIoapic().redirtbl[20], before.vm.getIoapic().redirtbl[20], "the IOAPIC's entry");
        after.vm.setIrqLine(20, true);
        after.expectOut(Port.VALUE, VECTOR);
      },
    },
    {
      name: "an interrupt that waits to be taken waits in the copy too",
      unsupported: needs(Capability.IRQCHIP),
      guest: long`
        ${ENABLE_APIC}
        ${setIoapicPin(20, VECTOR | Pin.LEVEL)}
        mov al, 1
        ${tell(Port.READY)}
        sti
        hlt
        jmp .
        ${apicHandler("handler", VECTOR)}`,
      run(t) {
        const before = t.machine({ irqchip: "kernel" });
        before.handle(VECTOR, "handler");
        before.expectOut(Port.READY, 1);
        before.vm.setIrqLine(20, true);
        const after = t.machine({ irqchip: "kernel", memory: copy(t, before) });
        restoreVcpu(after.vcpu, saved(t, before));
        copyChips(before, after);
        after.expectOut(Port.VALUE, VECTOR);
      },
    },
    {
      name: "a timer that was armed fires in the copy",
      unsupported: needs(Capability.IRQCHIP),
      guest: long`
        ${ENABLE_APIC}
        mov dword ptr [rbp + ${Apic.TIMER_DIVIDE}], 0xb
        mov dword ptr [rbp + ${Apic.LVT_TIMER}], ${VECTOR}
        mov dword ptr [rbp + ${Apic.TIMER_COUNT}], 50000000
        ${tell(Port.READY)}
        sti
        hlt
        jmp .
        ${apicHandler("handler", VECTOR)}`,
      run(t) {
        const before = t.machine({ irqchip: "kernel" });
        before.handle(VECTOR, "handler");
        before.expectOut(Port.READY, 0);
        const after = t.machine({ irqchip: "kernel", memory: copy(t, before) });
        restoreVcpu(after.vcpu, saved(t, before));
        after.expectOut(Port.VALUE, VECTOR);
      },
    },
    {
      name: "a pending NMI and an injected exception are delivered in the copy",
      unsupported: needs(Capability.VCPU_EVENTS),
      guest: real`
        hlt
      one:
        hlt
      handler:
        mov bx, 0x1111
        hlt`,
      run(t) {
        const before = t.machine();
        before.handle(2, "handler");
        before.expect(ExitReason.HLT);
        before.vcpu.injectNmi();
        const first = saved(t, before);
        equal(first.events.nmi.pending, 1, "the NMI in what is saved");
        const after = t.machine({ memory: copy(t, before) });
        restoreVcpu(after.vcpu, first);
        after.expect(ExitReason.HLT);
        equal(after.vcpu.getRegs().rbx, 0x1111n, "the handler's mark");
      },
    },
  ],
};

/** Runs rounds `from` to `to` of the mixer, and completes the last one's write. */
function advance(m: Machine, from: number, to: number): void {
  for (let round = from + 1; round <= to; round++) m.expectWrite(MMIO, round, 8);
  m.vcpu.completeExit();
}

/** The guest's memory once more, without what a hypervisor in software may have put behind it. */
function copy(t: Context, { bytes }: Machine): GuestMemory {
  const copied = t.hypervisor.createMemory(bytes.length);
  new Uint8Array(copied.buffer).set(bytes);
  return copied;
}

/** A vCPU's state with those of its MSRs that can be read and written back: some need chips that a machine lacks. */
function saved(t: Context, m: Machine): VcpuState {
  const present = t.hypervisor.msrIndices().filter((index) => {
    try {
      m.vcpu.setMsrs(m.vcpu.getMsrs([index]));
      return true;
    } catch {
      return false;
    }
  });
  return saveVcpu(m.vcpu, present);
}

/** The chips' state, which a machine saves beside its vCPUs'. */
function copyChips(from: Machine, to: Machine): void {
  to.vm.setPic(Irqchip.PIC_MASTER, from.vm.getPic(Irqchip.PIC_MASTER));
  to.vm.setPic(Irqchip.PIC_SLAVE, from.vm.getPic(Irqchip.PIC_SLAVE));
  to.vm.setIoapic(from.vm.getIoapic());
}

/** These go on by themselves: IA32_TSC, and Hyper-V's reference time and run time. */
const CLOCKS = [0x10, 0x40000020, 0x40000010];

function withoutTime(saved: VcpuState) {
  return { ...saved, msrs: saved.msrs.filter((msr) => !CLOCKS.includes(msr.index)) };
}
