/** Page faults: error code and CR2 for each way a page can refuse (Intel SDM vol. 3, 4.7). */

import { Cr0, Efer, ExitReason, Selector } from "../../src/index.ts";
import type { Group } from "../case.ts";
import { equal } from "../check.ts";
import { long, user } from "../guest.ts";
import { DATA } from "../layout.ts";
import type { Machine } from "../machine.ts";
import { Page } from "../tables.ts";
import { caught, withErrorCode } from "./fault-guests.ts";

const UNMAPPED = 0x7000000n;

/** Error code bits of #PF. */
const Fault = { PRESENT: 1n, WRITE: 2n, USER: 4n, FETCH: 16n } as const;

export const pageFaults: Group = {
  name: "page faults",
  cases: [
    {
      name: "nothing mapped, read and write, error code and CR2",
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
      name: "a read-only page stops ring 0 with CR0.WP, and only then",
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
      name: "ring 3 in a supervisor's page",
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
      name: "ring 3 writes to a read-only page",
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
      name: "a page that may not be executed, with EFER.NXE",
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
  ],
};

/** The page table that maps DATA's 2 MiB. */
function findTable(m: Machine): number {
  const follow = (table: number, index: number) => Number(m.u64(table + index * 8) & 0xffffff000n);
  return follow(follow(follow(Number(m.pages.cr3), 0), 0), 0);
}
