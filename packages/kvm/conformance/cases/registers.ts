/** Every getter returns what its setter was given, and the guest finds it there. */

import { Capability, Cr4, Efer, ExitReason, Irqchip, MpState, SyncRegsFlag, VcpuEventsFlag } from "../../src/index.ts";
import { type Group, needs } from "../case.ts";
import { equal, ok, refused } from "../check.ts";
import { long, protected32, real, user } from "../guest.ts";
import { DATA, MMIO, PAGE_TABLES } from "../layout.ts";
import { Page } from "../tables.ts";

/** XSAVE area: the x87 and SSE part's offsets (Intel SDM vol. 1, table 10-2), and the header's mask of parts in use. */
const Xsave = { FCW: 0, MXCSR: 24, ST0: 32, XMM0: 160, XSTATE_BV: 512 } as const;

export const registers: Group = {
  name: "registers",
  cases: [
    {
      name: "general registers: set, read back, seen by the guest, changed by it",
      guest: long`
        xchg rax, r15
        lea rbx, [rcx + rdx]
        hlt
      end:`,
      run(t) {
        const m = t.machine();
        const names = "rax rbx rcx rdx rsi rdi rsp rbp r8 r9 r10 r11 r12 r13 r14 r15".split(" ");
        const values = Object.fromEntries(
          names.map((name, index) => [name, 0x0101_0000_0000_0001n * BigInt(index + 1)]),
        );
        const regs = { ...m.vcpu.getRegs(), ...values };
        m.vcpu.setRegs(regs);
        equal(m.vcpu.getRegs(), regs, "what was set");
        m.expect(ExitReason.HLT);
        const { rcx, rdx } = regs;
        const expected = { ...regs, rax: regs.r15, r15: regs.rax, rbx: (rcx + rdx) & (2n ** 64n - 1n) };
        equal(m.vcpu.getRegs(), { ...expected, rip: BigInt(m.at("end")) }, "what the guest left");
      },
    },
    {
      name: "flags: the guest finds those that were set; bit 1 is always there",
      guest: long`
        pushfq
        pop rax
        hlt`,
      run(t) {
        const m = t.machine();
        // Carry, parity, zero, sign, direction, overflow.
        m.setRegs({ rflags: 0xcc7n });
        m.expect(ExitReason.HLT);
        equal(m.vcpu.getRegs().rax & 0xcd7n, 0xcc7n, "the flags");
      },
    },
    {
      name: "system registers: what was set is read back",
      guest: long`hlt`,
      run(t) {
        const m = t.machine();
        const sregs = m.vcpu.getSregs();
        const changed = {
          ...sregs,
          fs: { ...sregs.fs, base: 0x7fff12345678n },
          gdt: { base: 0x123000n, limit: 0x7f },
          idt: { base: 0x456000n, limit: 0xfff },
          cr2: 0xdeadbeefn,
          cr4: sregs.cr4 | Cr4.PGE,
          cr8: 3n,
          efer: sregs.efer | Efer.SCE | Efer.NXE,
        };
        m.vcpu.setSregs(changed);
        equal(m.vcpu.getSregs(), changed, "the registers");
      },
    },
    {
      name: "system registers with PAE pointers",
      unsupported: needs(Capability.SREGS2),
      guest: long`hlt`,
      run(t) {
        const m = t.machine();
        const sregs = m.vcpu.getSregs2();
        equal({ flags: sregs.flags, cr3: sregs.cr3 }, { flags: 0n, cr3: BigInt(PAGE_TABLES) }, "in long mode");
        const changed = { ...sregs, cr2: 0x1234n, efer: sregs.efer | Efer.SCE };
        m.vcpu.setSregs2(changed);
        equal(m.vcpu.getSregs2(), changed, "what was set");
      },
    },
    {
      name: "a register state that no processor can be in is refused",
      guest: long`hlt`,
      run(t) {
        const m = t.machine();
        const sregs = m.vcpu.getSregs();
        // Long mode without PAE.
        refusedState(() => m.vcpu.setSregs({ ...sregs, cr4: sregs.cr4 & ~Cr4.PAE }));
        equal(m.vcpu.getSregs(), sregs, "the registers are as before");
      },
    },
    {
      name: "x87 and SSE registers: set, read back, computed with, read again",
      guest: user`
        mov rdi, ${MMIO}
        fld1
        pcmpeqd xmm0, xmm0
        mov [rdi], al
        fadd st, st(1)
        addpd xmm0, xmm1
        mov [rdi], al
        jmp .`,
      run(t) {
        const m = t.machine();
        // The kernel's KVM_SET_FPU does not mark registers as in use, and loads only those that are: so the guest uses some.
        m.expectWrite(MMIO, 0, 1);
        const fpu = m.vcpu.getFpu();
        const fpr = new Uint8Array(128);
        // 80-bit 1.0 and 2.5: exponent and explicit leading bit.
        fpr.set([0, 0, 0, 0, 0, 0, 0, 0x80, 0xff, 0x3f], 0);
        fpr.set([0, 0, 0, 0, 0, 0, 0, 0xa0, 0x00, 0x40], 16);
        const xmm = new Uint8Array(256);
        new Float64Array(xmm.buffer).set([1.5, -2, 0.25, 10]);
        const changed = { ...fpu, fpr, xmm, fcw: 0x37f, ftwx: 0b11000000, fsw: 6 << 11 };
        m.vcpu.setFpu(changed);
        // The kernel's KVM_SET_FPU and KVM_GET_FPU leave MXCSR out; it is in the XSAVE area.
        equal({ ...m.vcpu.getFpu(), mxcsr: 0 }, { ...changed, mxcsr: 0 }, "what was set");
        m.expectWrite(MMIO, 0, 1);
        const after = m.vcpu.getFpu();
        equal(new Float64Array(after.xmm.buffer, after.xmm.byteOffset, 2).join(), "1.75,8", "xmm0");
        equal(after.fpr.slice(0, 10), Uint8Array.of(0, 0, 0, 0, 0, 0, 0, 0xe0, 0x00, 0x40), "st(0): 3.5");
      },
    },
    {
      name: "the XSAVE area holds the same registers, and is set and read back whole",
      unsupported: needs(Capability.XSAVE),
      guest: user`
        paddd xmm0, xmm0
        mov rdi, ${MMIO}
        mov [rdi], al
        jmp .`,
      run(t) {
        const m = t.machine();
        const area = m.vcpu.getXsave();
        const view = new DataView(area.buffer, area.byteOffset, area.byteLength);
        view.setUint16(Xsave.FCW, 0x27f, true);
        view.setUint32(Xsave.MXCSR, 0x1fa0, true);
        for (let lane = 0; lane < 4; lane++) view.setUint32(Xsave.XMM0 + lane * 4, lane + 1, true);
        // x87 and SSE are in use.
        view.setBigUint64(Xsave.XSTATE_BV, view.getBigUint64(Xsave.XSTATE_BV, true) | 3n, true);
        m.vcpu.setXsave(area);
        const back = m.vcpu.getXsave();
        equal(back.slice(0, 416), area.slice(0, 416), "the x87 and SSE part");
        equal(m.vcpu.getFpu().fcw, 0x27f, "the control word by the other getter");
        m.expectWrite(MMIO, 0, 1);
        const after = m.vcpu.getXsave();
        equal(
          Array.from(new Uint32Array(after.slice(Xsave.XMM0, Xsave.XMM0 + 16).buffer)),
          [2, 4, 6, 8],
          "xmm0 after the addition",
        );
      },
    },
    {
      name: "extended control registers: XCR0 is what xgetbv reads",
      unsupported: needs(Capability.XCRS),
      guest: user`
        xor ecx, ecx
        xgetbv
        mov rdi, ${MMIO}
        mov [rdi], eax
        jmp .`,
      run(t) {
        const m = t.machine();
        const sregs = m.vcpu.getSregs();
        m.vcpu.setSregs({ ...sregs, cr4: sregs.cr4 | Cr4.OSXSAVE });
        const xcrs = m.vcpu.getXcrs();
        const [first] = xcrs.xcrs;
        ok(first !== undefined && xcrs.nrXcrs >= 1, "there is an XCR0");
        // x87 alone is what a processor begins with; x87 and SSE every processor takes.
        m.vcpu.setXcrs({ ...xcrs, xcrs: [{ ...first, value: 3n }, ...xcrs.xcrs.slice(1)] });
        equal(m.vcpu.getXcrs().xcrs[0]?.value, 3n, "what was set");
        const exit = m.exit();
        const value = exit.reason === ExitReason.MMIO ? exit.value : undefined;
        t.excuse(value !== 3n, "interprets", "shows its own XCR0 to ring 3");
        equal(value, 3n, "what the guest reads");
      },
    },
    {
      name: "debug registers: set, read back, seen by the guest",
      unsupported: needs(Capability.DEBUGREGS),
      guest: long`
        mov rax, dr1
        mov rbx, dr7
        hlt`,
      run(t) {
        const m = t.machine();
        const changed = { ...m.vcpu.getDebugRegs(), db: [1n, 0x7fff0000n, 3n, 4n], dr7: 0x400n };
        m.vcpu.setDebugRegs(changed);
        equal(m.vcpu.getDebugRegs(), changed, "what was set");
        m.expect(ExitReason.HLT);
        const { rax, rbx } = m.vcpu.getRegs();
        equal({ rax, rbx }, { rax: 0x7fff0000n, rbx: 0x400n }, "DR1 and DR7");
      },
    },
    {
      name: "the local APIC's page: set, read back, seen by the guest",
      unsupported: needs(Capability.IRQCHIP),
      guest: long`
        mov ebp, 0xfee00000
        mov eax, [rbp + 0xf0]
        mov ebx, [rbp + 0x80]
        out 0x10, al`,
      run(t) {
        const m = t.machine({ irqchip: "kernel" });
        const page = m.vcpu.getLapic();
        const view = new DataView(page.buffer, page.byteOffset);
        equal(view.getUint32(0x20, true) >>> 24, 0, "the APIC id");
        view.setUint32(0xf0, 0x1e7, true);
        view.setUint32(0x80, 0x30, true);
        m.vcpu.setLapic(page);
        const back = new DataView(m.vcpu.getLapic().buffer);
        equal([back.getUint32(0xf0, true), back.getUint32(0x80, true)], [0x1e7, 0x30], "what was set");
        m.expectOut(0x10, 0xe7);
        equal(m.vcpu.getRegs().rbx, 0x30n, "the task priority");
      },
    },
    {
      name: "MP state: a halted vCPU says so, and can be made one",
      unsupported: needs(Capability.MP_STATE, Capability.IRQCHIP),
      guest: long`hlt`,
      run(t) {
        const m = t.machine({ irqchip: "kernel" });
        equal(m.vcpu.getMpState(), MpState.RUNNABLE, "at first");
        m.vcpu.setMpState(MpState.HALTED);
        equal(m.vcpu.getMpState(), MpState.HALTED, "what was set");
      },
    },
    {
      name: "pending events: an exception, an NMI and a masked NMI are set and read back",
      unsupported: needs(Capability.VCPU_EVENTS),
      guest: long`hlt`,
      run(t) {
        const m = t.machine();
        const events = m.vcpu.getEvents();
        const changed = {
          ...events,
          exception: { injected: 1, nr: 14, hasErrorCode: 1, pending: 0, errorCode: 2 },
          nmi: { injected: 0, pending: 1, masked: 1 },
          flags: VcpuEventsFlag.NMI_PENDING,
        };
        m.vcpu.setEvents(changed);
        const { exception, nmi } = m.vcpu.getEvents();
        equal({ exception, nmi }, { exception: changed.exception, nmi: changed.nmi }, "what was set");
      },
    },
    {
      // arch/x86/kvm/x86.c, __set_regs: what waits to be delivered belonged to the old registers.
      name: "setting general registers drops a pending exception",
      unsupported: needs(Capability.EXCEPTION_PAYLOAD),
      guest: long`hlt`,
      run(t) {
        const m = t.machine({ beforeVcpus: (vm) => vm.enableCapability(Capability.EXCEPTION_PAYLOAD, 1n) });
        const exception = { injected: 0, nr: 6, hasErrorCode: 0, pending: 1, errorCode: 0 };
        m.vcpu.setEvents({ ...m.vcpu.getEvents(), exception, flags: VcpuEventsFlag.PAYLOAD });
        equal(m.vcpu.getEvents().exception.pending, 1, "pending before");
        m.vcpu.setRegs(m.vcpu.getRegs());
        equal(m.vcpu.getEvents().exception.pending, 0, "pending after");
        m.expect(ExitReason.HLT);
      },
    },
    {
      name: "PICs, IOAPIC and PIT: set and read back",
      unsupported: needs(Capability.IRQCHIP, Capability.PIT_STATE2),
      guest: real`hlt`,
      run(t) {
        const m = t.machine({ irqchip: "kernel", beforeVcpus: (vm) => vm.createPit() });
        const pic = { ...m.vm.getPic(Irqchip.PIC_SLAVE), irqBase: 0x70, imr: 0x5a, elcr: 0x20 };
        m.vm.setPic(Irqchip.PIC_SLAVE, pic);
        equal(m.vm.getPic(Irqchip.PIC_SLAVE), pic, "the slave PIC");
        const ioapic = m.vm.getIoapic();
        const redirtbl = ioapic.redirtbl.map((entry, pin) => (pin === 7 ? 0x0300000000018041n : entry));
        m.vm.setIoapic({ ...ioapic, id: 5, ioregsel: 0x10, redirtbl });
        const { id, ioregsel, redirtbl: back } = m.vm.getIoapic();
        equal({ id, ioregsel, entry: back[7] }, { id: 5, ioregsel: 0x10, entry: 0x0300000000018041n }, "the IOAPIC");
        const pit = m.vm.getPit();
        const channels = pit.channels.map((channel, index) =>
          index === 2 ? { ...channel, count: 0x1234, mode: 3, rwMode: 3 } : channel,
        );
        m.vm.setPit({ ...pit, channels });
        const [, , third] = m.vm.getPit().channels;
        equal({ count: third?.count, mode: third?.mode }, { count: 0x1234, mode: 3 }, "the PIT's third channel");
      },
    },
    {
      // KVM_CAP_SYNC_REGS (api.rst 5 and 6.74).
      name: "registers can come with each exit, and go with the next run, in the shared page",
      unsupported: needs(Capability.SYNC_REGS),
      guest: protected32`
        mov ebx, 0x1234
        out 0x10, al
        hlt`,
      run(t) {
        const m = t.machine();
        const { page } = m.vcpu;
        page.validRegs = SyncRegsFlag.REGS | SyncRegsFlag.SREGS | SyncRegsFlag.EVENTS;
        m.expectOut(0x10, 0);
        equal(page.syncRegs, m.vcpu.getRegs(), "the general registers in the page");
        equal(page.syncRegs.rbx, 0x1234n, "ebx");
        equal(page.syncSregs.cr0, m.vcpu.getSregs().cr0, "CR0 in the page");
        equal(page.syncEvents.nmi, m.vcpu.getEvents().nmi, "the events in the page");
        page.syncRegs = { ...page.syncRegs, rcx: 0x5678n };
        page.dirtyRegs = SyncRegsFlag.REGS;
        m.expect(ExitReason.HLT);
        equal(page.dirtyRegs, 0n, "what is still to be taken over");
        equal(m.vcpu.getRegs().rcx, 0x5678n, "ecx");
      },
    },
    {
      // KVM_TRANSLATE (api.rst 4.14).
      name: "translate follows the guest's page tables",
      guest: long`hlt`,
      run(t) {
        const m = t.machine();
        m.pages.map(0xffff800000000000n, DATA + 0x3000, Page.PRESENT | Page.WRITE);
        m.pages.map(0x7000000n, 0, 0n);
        const there = m.vcpu.translate(0xffff800000000123n);
        equal({ address: there.physicalAddress, valid: there.valid }, { address: DATA + 0x3123, valid: 1 }, "mapped");
        equal(m.vcpu.translate(0x7000000n).valid, 0, "unmapped");
        equal(m.vcpu.translate(0x200123n).physicalAddress, 0x200123, "in a 2 MiB page");
      },
    },
  ],
};

function refusedState(call: () => void): void {
  refused(call, "KVM_REQUEST_FAILED", "no processor of this model can be in this state");
}
