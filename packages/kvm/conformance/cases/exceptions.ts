/** Exceptions go to the guest's own handlers, with the error codes of Intel SDM vol. 3, 6.15. */

import { Capability, ExitReason, Selector, VcpuEventsFlag } from "../../src/index.ts";
import { type Group, needs } from "../case.ts";
import { equal } from "../check.ts";
import { long, protected32, user } from "../guest.ts";
import { USER_STACK } from "../layout.ts";
import { caught, withErrorCode } from "./fault-guests.ts";

export const exceptions: Group = {
  name: "exceptions",
  cases: [
    {
      name: "#UD: an undefined instruction, rip at the instruction itself",
      guest: long`
        ud2
      handler:
        pop rax
        hlt`,
      run(t) {
        const m = t.machine();
        m.handle(6, "handler");
        m.expect(ExitReason.HLT);
        equal(m.vcpu.getRegs().rax, 0x1000n, "the rip that the handler finds");
      },
    },
    {
      name: "#DE: a division by zero, in ring 0 and ring 3",
      guest: long`
        xor ecx, ecx
        div ecx
        hlt
      handler:
        mov al, [rsp + 8]
        out 0x10, al
        push ${Selector.USER_DATA}
        push ${USER_STACK}
        push 2
        push ${Selector.USER_CODE}
        lea rax, [below]
        push rax
        iretq
      below:
        xor ecx, ecx
        idiv ecx
        jmp .`,
      run(t) {
        const m = t.machine();
        m.handle(0, "handler");
        m.expectOut(0x10, Selector.CODE);
        m.expectOut(0x10, Selector.USER_CODE);
      },
    },
    {
      name: "#GP: a non-canonical address, error code 0",
      guest: withErrorCode(
        long,
        `
        mov rdi, 0x800000000000
      culprit:
        mov al, [rdi]
        hlt`,
      ),
      run(t) {
        const m = t.machine();
        m.handle(13, "handler");
        equal(caught(m), { error: 0n, rip: "culprit", cs: BigInt(Selector.CODE), address: 0n }, "the fault");
      },
    },
    {
      name: "#GP: a selector beyond the GDT, error code is the selector",
      guest: withErrorCode(
        long,
        `
        mov eax, 0x1f8
      culprit:
        mov ds, eax
        hlt`,
      ),
      run(t) {
        const m = t.machine();
        m.handle(13, "handler");
        equal(caught(m), { error: 0x1f8n, rip: "culprit", cs: BigInt(Selector.CODE), address: 0n }, "the fault");
      },
    },
    {
      name: "#GP: ring 3 may not hlt, nor touch a port",
      guest: user`
      first:
        hlt
      second:
        out 0x10, al
      handler:
        pop rax
        pop rbx
        out 0x20, al
        lea rcx, [second]
        push rcx
        iretq`,
      run(t) {
        const m = t.machine();
        m.handle(13, "handler");
        for (const label of ["first", "second"]) {
          m.expectOut(0x20, 0);
          equal(m.vcpu.getRegs().rbx, BigInt(m.at(label)), "the faulting instruction");
        }
      },
    },
    {
      name: "int leads ring 3 to ring 0 on the TSS's stack, and iretq back",
      guest: user`
        mov rax, 1
        int 0x81
        mov rcx, rsp
        mov rdi, 0xd0000000
        mov [rdi], rax
        jmp .
      handler:
        mov rbx, rsp
        mov edx, cs
        add rax, 41
        iretq
      unknown:
        hlt`,
      run(t) {
        const m = t.machine();
        m.handleUnknown("unknown");
        m.handle(0x81, "handler", 3);
        m.expectWrite(0xd0000000, 42, 8);
        const { rbx, rcx, rdx } = m.vcpu.getRegs();
        // Five words: ss, rsp, rflags, cs, rip.
        equal(rbx, 0x8000n - 40n, "the handler's stack pointer");
        equal(rdx, BigInt(Selector.CODE), "the handler's cs");
        equal(rcx, BigInt(USER_STACK), "ring 3's stack pointer afterwards");
      },
    },
    {
      name: "int to a gate that is ring 0's is #GP with the vector in the error code",
      guest: withErrorCode(
        user,
        `
      culprit:
        int 0x81
      unknown:
        hlt`,
      ),
      run(t) {
        const m = t.machine();
        m.handleUnknown("unknown");
        m.handle(0x81, "handler", 0);
        m.handle(13, "handler");
        // 8 * vector + 2: in the IDT.
        const expected = { error: 0x40an, rip: "culprit", cs: BigInt(Selector.USER_CODE), address: 0n };
        const fault = caught(m);
        t.excuse(fault.error === 0x812n, "tcg", "has 16 * vector + 2 in this error code");
        equal(fault, expected, "the fault");
      },
    },
    {
      // KVM_SET_VCPU_EVENTS (api.rst 4.32).
      name: "an exception that the monitor injects reaches the handler with its error code",
      guest: protected32`
        nop
        hlt
      handler:
        pop eax
        pop ebx
        hlt`,
      run(t) {
        const m = t.machine();
        m.handle(13, "handler");
        const events = m.vcpu.getEvents();
        m.vcpu.setEvents({
          ...events,
          exception: { injected: 1, nr: 13, hasErrorCode: 1, pending: 0, errorCode: 0x58 },
          flags: 0,
        });
        equal(m.vcpu.getEvents().exception.nr, 13, "the exception that waits");
        m.expect(ExitReason.HLT);
        const { rax, rbx } = m.vcpu.getRegs();
        equal({ rax, rbx }, { rax: 0x58n, rbx: 0x1000n }, "error code and eip");
      },
    },
    {
      // KVM_CAP_EXCEPTION_PAYLOAD (api.rst 7.17): CR2 comes with the #PF and is written when it is delivered, not before.
      name: "an injected page fault brings its address along as payload",
      unsupported: needs(Capability.EXCEPTION_PAYLOAD),
      guest: long`
        hlt
      handler:
        pop rax
        mov rbx, cr2
        hlt`,
      run(t) {
        const m = t.machine({ beforeVcpus: (vm) => vm.enableCapability(Capability.EXCEPTION_PAYLOAD, 1n) });
        m.handle(14, "handler");
        m.vcpu.setEvents({
          ...m.vcpu.getEvents(),
          exception: { injected: 0, nr: 14, hasErrorCode: 1, pending: 1, errorCode: 6 },
          exceptionHasPayload: 1,
          exceptionPayload: 0xdead000n,
          flags: VcpuEventsFlag.PAYLOAD,
        });
        equal(m.vcpu.getSregs().cr2, 0n, "CR2 before delivery");
        m.expect(ExitReason.HLT);
        const { rax, rbx } = m.vcpu.getRegs();
        equal({ rax, rbx }, { rax: 6n, rbx: 0xdead000n }, "error code and CR2");
      },
    },
    {
      name: "#DB: the guest's own single-stepping is not the monitor's business",
      guest: long`
        pushfq
        or dword ptr [rsp], 0x100
        popfq
        nop
      stepped:
        nop
        hlt
      handler:
        mov rax, [rsp]
        and dword ptr [rsp + 16], ~0x100
        inc ebx
        iretq`,
      run(t) {
        const m = t.machine();
        m.handle(1, "handler");
        m.expect(ExitReason.HLT);
        const { rax, rbx } = m.vcpu.getRegs();
        equal(rbx, 1n, "how often the handler ran");
        equal(rax, BigInt(m.at("stepped")), "the rip that it found");
      },
    },
    {
      name: "#BP: int3 reaches the guest's handler when nobody debugs, rip behind it",
      guest: user`
        int3
      behind:
        jmp .
      handler:
        pop rax
        hlt`,
      run(t) {
        const m = t.machine();
        m.handle(3, "handler", 3);
        m.expect(ExitReason.HLT);
        equal(m.vcpu.getRegs().rax, BigInt(m.at("behind")), "the rip that the handler finds");
      },
    },
  ],
};
