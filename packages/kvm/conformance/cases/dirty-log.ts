/** Which pages were written: KVM_GET_DIRTY_LOG (api.rst 4.8) and KVM_CLEAR_DIRTY_LOG (4.117). */

import { Capability, ExitReason } from "../../src/index.ts";
import { type Group, needs } from "../case.ts";
import { equal, refused } from "../check.ts";
import { protected32 } from "../guest.ts";
import { DATA, MEMORY_BYTES } from "../layout.ts";
import type { Machine } from "../machine.ts";

/*
 * Exactness: what the guest writes is in the log, and what it only reads is not, provided that it has touched the page
 * before logging began. The first touch of a page while its slot logs may count as a write: the kernel maps the page
 * writable at once, and then cannot tell. So guests here begin by touching their pages, and then say so.
 */

const PAGE = 0x1000;
const PAGES = MEMORY_BYTES / PAGE;
const FIRST = DATA / PAGE;

const TOUCHED = 0x30;

/** Reads a byte of every page of memory, and says so. */
const touchAll = `
        mov ecx, ${PAGES}
        xor esi, esi
      touch:
        mov al, [esi]
        add esi, ${PAGE}
        loop touch
        xor eax, eax
        out ${TOUCHED}, al`;

/** Writes to the first page of DATA at each round. */
const writer = protected32`
        ${touchAll}
      again:
        inc byte ptr [${DATA}]
        out 0x10, al
        jmp again`;

export const dirtyLog: Group = {
  name: "dirty log",
  cases: [
    {
      name: "each page that was written is in the log, and no other",
      guest: protected32`
        ${touchAll}
        mov al, [${DATA}]
        mov byte ptr [${DATA + PAGE}], 1
        lock inc dword ptr [${DATA + 3 * PAGE}]
        mov dword ptr [${DATA + 5 * PAGE - 2}], -1
        mov esp, ${DATA + 8 * PAGE}
        push eax
        mov ecx, 3000
        mov esi, ${DATA + 20 * PAGE}
        mov edi, ${DATA + 10 * PAGE + 0x800}
        cld
        rep movsb
        hlt`,
      run(t) {
        const m = t.machine();
        startLogging(m);
        m.expect(ExitReason.HLT);
        // Written; an atomic; both sides of a boundary; a push; a copy across a boundary. Not: read, or copied from.
        equal(
          dirty(m),
          [1, 3, 4, 5, 7, 10, 11].map((page) => FIRST + page),
          "the pages",
        );
      },
    },
    {
      name: "reading the log clears it",
      guest: writer,
      run(t) {
        const m = t.machine();
        startLogging(m);
        m.expectOut(0x10, 0);
        equal(dirty(m), [FIRST], "the pages");
        equal(dirty(m), [], "the pages once more");
        m.expectOut(0x10, 0);
        equal(dirty(m), [FIRST], "after another write to the same page");
      },
    },
    {
      name: "writes before logging was switched on are not in it, nor are the monitor's own",
      guest: writer,
      run(t) {
        const m = t.machine();
        m.expectOut(TOUCHED, 0);
        m.expectOut(0x10, 0);
        m.setSlot({ logDirtyPages: true });
        m.bytes[DATA + 9 * PAGE] = 1;
        equal(dirty(m), [], "the pages");
        m.expectOut(0x10, 0);
        equal(dirty(m), [FIRST], "the pages after another round");
      },
    },
    {
      name: "each slot has its own log, whose pages count from the slot's start",
      guest: protected32`
        ${touchAll}
        mov byte ptr [${DATA}], 1
        mov byte ptr [0x400000], 1
        mov byte ptr [0x402000], 1
        hlt`,
      run(t) {
        const m = t.machine();
        startLogging(m);
        const second = { slot: 1, guestAddress: 0x400000, sizeBytes: 4 * PAGE, memoryOffset: DATA + 32 * PAGE };
        m.vm.setMemorySlot({ ...second, logDirtyPages: true });
        m.expect(ExitReason.HLT);
        equal(dirty(m), [FIRST], "pages of the first slot");
        const bitmap = new Uint8Array(8);
        m.vm.getDirtyLog(1, bitmap);
        equal(bitmap, Uint8Array.of(0b101, 0, 0, 0, 0, 0, 0, 0), "pages of the second slot");
      },
    },
    {
      name: "a slot without logging has no log, and neither has a slot that is none",
      guest: writer,
      run(t) {
        const m = t.machine();
        refused(() => dirty(m), "KVM_REQUEST_FAILED", "does not log dirty pages");
        refused(() => m.vm.getDirtyLog(7, new Uint8Array(8)), "KVM_INVALID", "memory slot 7: there is none");
        m.setSlot({ logDirtyPages: true });
        const short = new Uint8Array(PAGES / 8 - 1);
        refused(() => m.vm.getDirtyLog(0, short), "KVM_INVALID", "256 pages need a bitmap of 32 bytes, not 31");
      },
    },
    {
      // KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2 (7.14).
      name: "with manual clearing, pages stay in the log until they are cleared",
      unsupported: needs(Capability.MANUAL_DIRTY_LOG_PROTECT2),
      guest: writer,
      run(t) {
        const m = t.machine({ beforeVcpus: (vm) => vm.enableManualDirtyLog() });
        startLogging(m);
        m.expectOut(0x10, 0);
        equal(dirty(m), [FIRST], "the pages");
        equal(dirty(m), [FIRST], "the pages once more");
        m.vm.clearDirtyLog(0, 0, PAGES, bitmapOf([FIRST]));
        equal(dirty(m), [], "the pages once cleared");
        m.expectOut(0x10, 0);
        equal(dirty(m), [FIRST], "after another write to the same page");
      },
    },
    {
      name: "clearing takes a range and a bitmap, and clears no more than both say",
      unsupported: needs(Capability.MANUAL_DIRTY_LOG_PROTECT2),
      guest: protected32`
        ${touchAll}
        mov ecx, 160
        mov edi, ${DATA}
      again:
        mov byte ptr [edi], 1
        add edi, ${PAGE}
        loop again
        hlt`,
      run(t) {
        const m = t.machine({ beforeVcpus: (vm) => vm.enableManualDirtyLog() });
        startLogging(m);
        m.expect(ExitReason.HLT);
        const pages = Array.from({ length: 160 }, (_, index) => FIRST + index);
        equal(dirty(m), pages, "the pages");
        // Pages 128 to 191 only; of these, those that the bitmap has: its bit 0 is page 128.
        m.vm.clearDirtyLog(0, 128, 64, bitmapOf([0, 1, 63], 64));
        const left = pages.filter((page) => ![128, 129, 191].includes(page));
        equal(dirty(m), left, "the pages that are left");
      },
    },
    {
      name: "a range to clear begins and ends at multiples of 64 pages",
      unsupported: needs(Capability.MANUAL_DIRTY_LOG_PROTECT2),
      guest: writer,
      run(t) {
        const m = t.machine({ beforeVcpus: (vm) => vm.enableManualDirtyLog() });
        m.setSlot({ logDirtyPages: true });
        const words = "multiples of 64";
        const bitmap = new Uint8Array(PAGES / 8);
        refused(() => m.vm.clearDirtyLog(0, 1, 64, bitmap), "KVM_REQUEST_FAILED", words);
        refused(() => m.vm.clearDirtyLog(0, 0, 63, bitmap), "KVM_REQUEST_FAILED", words);
        refused(() => m.vm.clearDirtyLog(0, 192, 128, bitmap), "KVM_REQUEST_FAILED", "within the slot");
        refused(() => m.vm.clearDirtyLog(0, 0, 128, new Uint8Array(8)), "KVM_INVALID", "a bitmap of 16 bytes");
      },
    },
    {
      name: "a new log can begin with every page in it",
      unsupported: needs(Capability.MANUAL_DIRTY_LOG_PROTECT2),
      guest: writer,
      run(t) {
        const m = t.machine({ beforeVcpus: (vm) => vm.enableManualDirtyLog(true) });
        startLogging(m);
        equal(dirty(m).length, PAGES, "how many pages");
        m.vm.clearDirtyLog(0, 0, PAGES, new Uint8Array(PAGES / 8).fill(0xff));
        m.expectOut(0x10, 0);
        equal(dirty(m), [FIRST], "the pages after one round");
      },
    },
  ],
};

/** Lets the guest touch its pages, then switches the log on. */
function startLogging(m: Machine): void {
  m.expectOut(TOUCHED, 0);
  m.setSlot({ logDirtyPages: true });
}

/** The pages in slot 0's log. */
function dirty(m: Machine): number[] {
  const bitmap = new Uint8Array(PAGES / 8);
  m.vm.getDirtyLog(0, bitmap);
  return Array.from({ length: PAGES }, (_, page) => page).filter((page) => bitmap[page >> 3]! & (1 << (page & 7)));
}

function bitmapOf(pages: readonly number[], length = PAGES): Uint8Array {
  const bitmap = new Uint8Array(length / 8);
  for (const page of pages) bitmap[page >> 3]! |= 1 << (page & 7);
  return bitmap;
}
