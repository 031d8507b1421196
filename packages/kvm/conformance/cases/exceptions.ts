/** Exceptions go to the guest's own handlers, with the error codes of Intel SDM vol. 3, 6.15. */

import { Capability, Cr0, Efer, ExitReason, Selector, VcpuEventsFlag } from "../../src/index.ts";
import { type Group, needs } from "../case.ts";
import { equal } from "../check.ts";
import { type Guest, long, protected32, user } from "../guest.ts";
import { DATA, USER_STACK } from "../layout.ts";
import type { Machine } from "../machine.ts";
import { Page } from "../tables.ts";

const UNMAPPED = 0x7000000n;

/** Error code bits of #PF. */
const Fault = { PRESENT: 1n, WRITE: 2n, USER: 4n, FETCH: 16n } as const;

/** A guest whose handler leaves the error code in rax, the faulting rip in rbx, its cs in rcx and CR2 in rdx. */
const withErrorCode = (start: (strings: TemplateStringsArray) => Guest, body: string): Guest => ({
  ...start``,
  source: `${body}
      handler:
        pop rax
        pop rbx
        pop rcx
        mov rdx, cr2
        hlt`,
});

/** What {@link withErrorCode}'s handler found. */
function caught(m: Machine) {
  m.expect(ExitReason.HLT);
  const { rax: error, rbx: rip, rcx: cs, rdx: address } = m.vcpu.getRegs();
  return { error, rip: rip === BigInt(m.at("culprit")) ? "culprit" : rip, cs, address };
}

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
      name: "#PF: nothing mapped, read and write, error code and CR2",
      guest: withErrorCode(
        long,
        `
      culprit:
        mov [0x7000008], al
        hlt`,
      ),
      run(t) {
        const m = t.machine();
        m.pages.map(UNMAPPED, 0, 0n);
        m.handle(14, "handler");
        const expected = { error: Fault.WRITE, rip: "culprit", cs: BigInt(Selector.CODE), address: UNMAPPED + 8n };
        equal(caught(m), expected, "the fault");
      },
    },
    {
      name: "#PF: a read-only page stops ring 0 with CR0.WP, and only then",
      guest: withErrorCode(
        long,
        `
        mov byte ptr [0x40000], 1
        mov rax, cr0
        bts rax, 16
        mov cr0, rax
      culprit:
        mov byte ptr [0x40001], 1
        hlt`,
      ),
      run(t) {
        const m = t.machine();
        m.pages.map(BigInt(DATA), DATA, Page.PRESENT);
        m.handle(14, "handler");
        const sregs = m.vcpu.getSregs();
        m.vcpu.setSregs({ ...sregs, cr0: sregs.cr0 & ~Cr0.WP });
        const error = Fault.PRESENT | Fault.WRITE;
        const expected = { error, rip: "culprit", cs: BigInt(Selector.CODE), address: BigInt(DATA + 1) };
        equal(caught(m), expected, "the fault");
        equal([m.u8(DATA), m.u8(DATA + 1)], [1, 0], "what was written");
      },
    },
    {
      name: "#PF: ring 3 in a supervisor's page",
      guest: withErrorCode(
        user,
        `
      culprit:
        mov al, [0x40000]
        jmp .`,
      ),
      run(t) {
        const m = t.machine();
        m.pages.map(BigInt(DATA), DATA, Page.PRESENT | Page.WRITE);
        m.handle(14, "handler");
        const error = Fault.PRESENT | Fault.USER;
        const expected = { error, rip: "culprit", cs: BigInt(Selector.USER_CODE), address: BigInt(DATA) };
        equal(caught(m), expected, "the fault");
      },
    },
    {
      name: "#PF: ring 3 writes to a read-only page",
      guest: withErrorCode(
        user,
        `
        mov al, [0x40000]
      culprit:
        mov [0x40000], al
        jmp .`,
      ),
      run(t) {
        const m = t.machine();
        m.pages.map(BigInt(DATA), DATA, Page.PRESENT | Page.USER);
        m.handle(14, "handler");
        const error = Fault.PRESENT | Fault.WRITE | Fault.USER;
        const expected = { error, rip: "culprit", cs: BigInt(Selector.USER_CODE), address: BigInt(DATA) };
        equal(caught(m), expected, "the fault");
      },
    },
    {
      name: "#PF: a page that may not be executed, with EFER.NXE",
      guest: withErrorCode(
        user,
        `
        mov rax, 0x40000
        jmp rax`,
      ),
      run(t) {
        const m = t.machine();
        m.bytes[DATA] = 0xf4;
        m.pages.map(BigInt(DATA), DATA, Page.PRESENT | Page.USER | Page.NX);
        m.handle(14, "handler");
        const sregs = m.vcpu.getSregs();
        m.vcpu.setSregs({ ...sregs, efer: sregs.efer | Efer.NXE });
        m.expect(ExitReason.HLT);
        const { rax, rbx, rdx } = m.vcpu.getRegs();
        equal(rax, Fault.PRESENT | Fault.USER | Fault.FETCH, "the error code");
        equal([rbx, rdx], [BigInt(DATA), BigInt(DATA)], "rip and CR2");
      },
    },
    {
      name: "a fault is repeated after its handler has mended the cause",
      guest: long`
        mov rbx, 0x1122
        mov [0x40000], rbx
        mov rcx, [0x40000]
        hlt
      handler:
        add rsp, 8
        mov byte ptr [0x3f000], 1
        mov rax, ${BigInt(DATA) | Page.PRESENT | Page.WRITE}
        mov [rsi], rax
        invlpg [0x40000]
        iretq`,
      run(t) {
        const m = t.machine();
        m.pages.map(BigInt(DATA), 0, 0n);
        // The handler finds the address of the entry that it shall mend in rsi: the page table made by the line above.
        const table = findTable(m);
        m.setRegs({ rsi: BigInt(table + ((DATA >> 12) & 511) * 8) });
        m.handle(14, "handler");
        m.expect(ExitReason.HLT);
        equal(m.vcpu.getRegs().rcx, 0x1122n, "what was read back");
        equal([m.u8(0x3f000), m.u64(DATA)], [1, 0x1122n], "the handler's mark, and the page");
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

/** The page table that maps DATA's 2 MiB. */
function findTable(m: Machine): number {
  const follow = (table: number, index: number) => Number(m.u64(table + index * 8) & 0xffffff000n);
  return follow(follow(follow(Number(m.pages.cr3), 0), 0), 0);
}
