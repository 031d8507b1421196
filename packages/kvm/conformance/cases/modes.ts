/** The processor's modes: as the monitor sets them up (KVM_SET_SREGS, api.rst 4.14), and as the guest switches itself. */

import { Cr0, Cr4, Efer, ExitReason, Selector } from "../../src/index.ts";
import type { Group } from "../case.ts";
import { equal } from "../check.ts";
import type { Context } from "../context.ts";
import { long, protected32, real, user } from "../guest.ts";
import { DATA, GDT, PAGE_TABLES, STACK } from "../layout.ts";
import type { Machine } from "../machine.ts";
import { COMPATIBILITY_CODE, GDT_LIMIT, Page, writeGdt } from "../tables.ts";

/** Where the cases without the machine's own page tables build theirs. */
const TABLES = 0x80000;

export const modes: Group = {
  name: "modes",
  cases: [
    {
      // Intel SDM vol. 3, table 10-1: the first instruction is 16 bytes below 4 GiB.
      name: "a new vCPU is at the reset vector, and runs from there",
      guest: real`
        hlt`,
      run(t) {
        const TOP = 0xffff0000;
        const m = t.machine({
          untouched: true,
          slots: (vm) => vm.setMemorySlot({ slot: 0, guestAddress: TOP, sizeBytes: 0x10000, memoryOffset: 0 }),
        });
        const { rip, rflags } = m.vcpu.getRegs();
        const { cs, cr0, efer } = m.vcpu.getSregs();
        equal({ rip, rflags }, { rip: 0xfff0n, rflags: 2n }, "registers");
        equal({ selector: cs.selector, base: cs.base }, { selector: 0xf000, base: BigInt(TOP) }, "cs");
        equal({ cr0, efer }, { cr0: 0x60000010n, efer: 0n }, "control registers");
        // mov ax, 0x1234; hlt
        m.bytes.set([0xb8, 0x34, 0x12, 0xf4], 0xfff0);
        m.expect(ExitReason.HLT);
        equal(m.vcpu.getRegs().rax & 0xffffn, 0x1234n, "ax");
      },
    },
    {
      name: "real mode: loading a segment register makes its base selector times 16",
      guest: real`
        mov ax, ${DATA >> 4}
        mov ds, ax
        mov byte ptr [0x10], 0x5a
        mov ax, ${(DATA >> 4) + 0x10}
        mov es, ax
        mov al, es:[-0xf0 & 0xffff]
        mov bl, ds:[0x10]
        hlt`,
      run(t) {
        const m = t.machine();
        m.expect(ExitReason.HLT);
        equal(m.u8(DATA + 0x10), 0x5a, "the byte at ds:0x10");
        const { ds, es } = m.vcpu.getSregs();
        equal([ds.base, es.base], [BigInt(DATA), BigInt(DATA + 0x100)], "the segments' bases");
      },
    },
    {
      name: "protected mode: a segment's base is added to every address",
      guest: protected32`
        mov dword ptr [0x10], 0xcafe
        mov eax, es:[0x10]
        hlt`,
      run(t) {
        const m = t.machine();
        const sregs = m.vcpu.getSregs();
        m.vcpu.setSregs({ ...sregs, ds: { ...sregs.ds, base: BigInt(DATA) } });
        m.view.setUint32(0x10, 0x1234, true);
        m.expect(ExitReason.HLT);
        equal(m.u32(DATA + 0x10), 0xcafe, "memory at ds:0x10");
        equal(m.vcpu.getRegs().rax, 0x1234n, "what es:0x10 holds, with base 0");
      },
    },
    {
      name: "protected mode: beyond a segment's limit is #GP with error code 0",
      guest: protected32`
        mov al, [0xfff]
        mov bl, 1
      beyond:
        mov al, [0x1000]
        mov bl, 2
        hlt
      protection:
        pop eax
        pop ecx
        hlt`,
      run(t) {
        const m = t.machine();
        m.handle(13, "protection");
        const sregs = m.vcpu.getSregs();
        m.vcpu.setSregs({ ...sregs, ds: { ...sregs.ds, limit: 0xfff, g: 0 } });
        m.expect(ExitReason.HLT);
        const { rax, rbx, rcx } = m.vcpu.getRegs();
        t.excuse(rbx === 2n, "tcg", "does not check segment limits");
        equal(rbx & 0xffn, 1n, "the byte at the limit is read, the one beyond is not");
        equal({ error: rax, eip: rcx }, { error: 0n, eip: BigInt(m.at("beyond")) }, "the handler's stack");
      },
    },
    {
      name: "32-bit paging translates through 4 KiB and 4 MiB pages",
      guest: protected32`
        mov eax, [0x800000]
        mov dword ptr [0xc00010], 0x77
        hlt`,
      run(t) {
        const m = t.machine();
        const set = (at: number, index: number, entry: bigint) => m.view.setUint32(at + index * 4, Number(entry), true);
        const open = Page.PRESENT | Page.WRITE;
        set(TABLES, 0, Page.LARGE | open);
        // 8 MiB by a table of 4 KiB pages, 12 MiB as one large page over physical 0.
        set(TABLES, 2, BigInt(TABLES + 0x1000) | open);
        set(TABLES + 0x1000, 0, BigInt(DATA) | open);
        set(TABLES, 3, Page.LARGE | open);
        m.view.setUint32(DATA, 0xabcd, true);
        startPaging(t, m, Cr4.PSE);
        m.expect(ExitReason.HLT);
        equal(m.vcpu.getRegs().rax, 0xabcdn, "what the 4 KiB page holds");
        equal(m.u32(0x10), 0x77, "what was written through the 4 MiB page");
      },
    },
    {
      name: "PAE paging translates through its four directory pointers",
      guest: protected32`
        mov eax, [0x40000008]
        hlt`,
      run(t) {
        const m = t.machine();
        const set = (at: number, index: number, entry: bigint) => m.view.setBigUint64(at + index * 8, entry, true);
        const open = Page.PRESENT | Page.WRITE;
        // PDPT: 0 and 1 GiB. The first directory maps itself, the second leads to DATA by a 4 KiB page.
        set(TABLES, 0, BigInt(TABLES + 0x1000) | Page.PRESENT);
        set(TABLES, 1, BigInt(TABLES + 0x2000) | Page.PRESENT);
        set(TABLES + 0x1000, 0, Page.LARGE | open);
        set(TABLES + 0x2000, 0, BigInt(TABLES + 0x3000) | open);
        set(TABLES + 0x3000, 0, BigInt(DATA) | open);
        m.view.setUint32(DATA + 8, 0x9ae, true);
        startPaging(t, m, Cr4.PAE);
        m.expect(ExitReason.HLT);
        equal(m.vcpu.getRegs().rax, 0x9aen, "what the page at 1 GiB holds");
      },
    },
    {
      name: "long mode has sixteen 64-bit registers and 64-bit addresses",
      guest: long`
        mov r15, 0x123456789abcdef0
        mov r8, r15
        rol r8, 4
        mov rbx, 0xffff800000000000
        mov [rbx + 8], r8
        mov r9d, -1
        hlt`,
      run(t) {
        const m = t.machine();
        m.pages.map(0xffff800000000000n, DATA, Page.PRESENT | Page.WRITE);
        m.expect(ExitReason.HLT);
        equal(m.u64(DATA + 8), 0x23456789abcdef01n, "what was written through the upper half");
        equal(m.vcpu.getRegs().r9, 0xffffffffn, "a 32-bit result clears the upper half");
      },
    },
    {
      name: "long mode marks what it uses in the page tables: accessed, and dirty when written",
      guest: long`
        mov al, [${DATA}]
        mov [${DATA + 0x1000}], al
        hlt`,
      run(t) {
        const m = t.machine();
        for (let page = 0; page < 3; page++) {
          m.pages.map(BigInt(DATA + page * 0x1000), DATA + page * 0x1000, Page.PRESENT | Page.WRITE);
        }
        m.expect(ExitReason.HLT);
        const marks = [0, 1, 2].map(
          (page) => m.pages.entry(BigInt(DATA + page * 0x1000)) & (Page.ACCESSED | Page.DIRTY),
        );
        equal(marks, [Page.ACCESSED, Page.ACCESSED | Page.DIRTY, 0n], "of the pages read, written and left alone");
      },
    },
    {
      name: "compatibility mode runs 32-bit code under long mode's page tables",
      guest: long`
        push ${COMPATIBILITY_CODE}
        lea rax, [narrow]
        push rax
        retfq
      .code32
      narrow:
        mov eax, -1
        inc eax
        .byte 0x40
        hlt`,
      run(t) {
        const m = t.machine();
        m.expect(ExitReason.HLT);
        // 0x40 is inc eax here; in 64-bit code it would be a prefix.
        equal(m.vcpu.getRegs().rax, 1n, "rax");
        const { cs, efer } = m.vcpu.getSregs();
        equal({ l: cs.l, db: cs.db, lma: efer & Efer.LMA }, { l: 0, db: 1, lma: Efer.LMA }, "the mode");
      },
    },
    {
      name: "ring 3 computes, and its privilege level shows in cs and ss",
      guest: user`
        mov rax, 6
        mov rcx, 7
        imul rax, rcx
        push rax
        pop rbx
        mov edx, cs
        mov esi, ss
        mov rdi, 0xd0000000
        mov [rdi], eax`,
      run(t) {
        const m = t.machine();
        m.expectWrite(0xd0000000, 42, 4);
        const { rbx, rdx, rsi } = m.vcpu.getRegs();
        equal(rbx, 42n, "what went over the stack");
        // Their other bits name descriptors, which a paravirtual host may replace by its own while ring 3 runs.
        equal([rdx & 3n, rsi & 3n], [3n, 3n], "the privilege levels");
      },
    },
    {
      name: "a guest goes from real mode to protected mode to long mode by itself",
      guest: real`
        out 0x10, al
        cli
        lgdt [gdtr]
        mov eax, cr0
        or eax, 1
        mov cr0, eax
        ljmp ${Selector.CODE}, offset wide
      .code32
      wide:
        mov ax, ${Selector.DATA}
        mov ds, ax
        mov ss, ax
        mov esp, ${STACK}
        out 0x20, al
        mov eax, ${PAGE_TABLES}
        mov cr3, eax
        mov eax, ${Cr4.PAE}
        mov cr4, eax
        mov ecx, 0xc0000080
        xor edx, edx
        mov eax, ${Efer.LME}
        wrmsr
        mov eax, cr0
        or eax, ${Cr0.PG}
        mov cr0, eax
        mov dword ptr [gdt64 + 0x0c], 0x00af9b00
        lgdt [gdtr64]
        ljmp ${Selector.CODE}, offset longer
      .code64
      longer:
        mov rax, 0x1122334455667788
        push rax
        pop rbx
        hlt
      gdtr:
        .word ${GDT_LIMIT}
        .long ${GDT}
      gdtr64:
        .word 23
        .long gdt64
      gdt64:
        .quad 0, 0x00af9b000000ffff, 0x00cf93000000ffff`,
      guests: { tables: long`hlt` },
      run(t) {
        // The page tables of a machine that begins in long mode, for one that begins in real mode.
        const donor = t.machine({ guest: "tables" });
        const m = t.machine();
        m.bytes.set(donor.bytes.subarray(PAGE_TABLES, DATA), PAGE_TABLES);
        writeGdt(m.view, 32);
        const mode = () => {
          const { cr0, efer, cs } = m.vcpu.getSregs();
          return { pe: (cr0 & Cr0.PE) !== 0n, lma: (efer & Efer.LMA) !== 0n, db: cs.db, l: cs.l };
        };
        m.expectOut(0x10, 0);
        equal(mode(), { pe: false, lma: false, db: 0, l: 0 }, "the mode at the first exit");
        m.expectOut(0x20, Selector.DATA);
        equal(mode(), { pe: true, lma: false, db: 1, l: 0 }, "the mode at the second exit");
        m.expect(ExitReason.HLT);
        equal(mode(), { pe: true, lma: true, db: 0, l: 1 }, "the mode at the end");
        equal(m.vcpu.getRegs().rbx, 0x1122334455667788n, "rbx");
      },
    },
    {
      name: "a guest in protected mode goes back to real mode",
      guest: protected32`
        mov ebx, ${STACK}
        ljmp 0x18, offset narrow
      .code16
      narrow:
        mov eax, cr0
        and eax, ~1
        mov cr0, eax
        ljmp 0, offset back
      back:
        mov ax, ${DATA >> 4}
        mov ds, ax
        mov byte ptr ds:[0], 0x99
        hlt`,
      run(t) {
        const m = t.machine();
        // A 16-bit code segment, limit 64 KiB.
        m.view.setBigUint64(GDT + 0x18, 0x00009b000000ffffn, true);
        m.expect(ExitReason.HLT);
        equal(m.u8(DATA), 0x99, "the byte at ds:0");
        equal(m.vcpu.getSregs().cr0 & Cr0.PE, 0n, "CR0.PE");
      },
    },
  ],
};

/** Switches paging on in protected mode, with the page tables at TABLES. */
function startPaging(t: Context, m: Machine, cr4: bigint): void {
  const sregs = m.vcpu.getSregs();
  m.vcpu.setSregs({ ...sregs, cr3: BigInt(TABLES), cr4, cr0: sregs.cr0 | Cr0.PG });
  const dropped = (m.vcpu.getSregs().cr0 & Cr0.PG) === 0n;
  t.excuse(dropped, "interprets", "has no paging outside long mode: CR0.PG does not stay set");
}
