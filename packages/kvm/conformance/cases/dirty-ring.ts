/** A ring of written pages for each vCPU: KVM_CAP_DIRTY_LOG_RING (api.rst 8.29). */

import { Capability, DirtyGfn, ExitReason } from "../../src/index.ts";
import type { Case, Group, Host } from "../case.ts";
import { equal, ok, refused } from "../check.ts";
import type { Context } from "../context.ts";
import { protected32 } from "../guest.ts";
import { DATA } from "../layout.ts";
import type { Machine } from "../machine.ts";

const PAGE = 0x1000;
const FIRST = DATA / PAGE;
const RING_BYTES = 4096 * 4;

/** Writes to as many pages from DATA on as the word at 0x500 says, in order; an exit after each, another after all. */
const writer = protected32`
        mov ecx, [0x500]
        mov esi, ${DATA}
      touch:
        mov al, [esi]
        add esi, ${PAGE}
        loop touch
        xor eax, eax
        out 0x30, al
      again:
        mov ecx, [0x500]
        mov edi, ${DATA}
      next:
        inc byte ptr [edi]
        add edi, ${PAGE}
        out 0x20, al
        loop next
        out 0x10, al
        jmp again`;

function unsupported({ hypervisor }: Host): string | undefined {
  const rings = [Capability.DIRTY_LOG_RING, Capability.DIRTY_LOG_RING_ACQ_REL] as const;
  if (rings.some((capability) => hypervisor.checkExtension(capability) > 0)) return undefined;
  return "this host's KVM lacks KVM_CAP_DIRTY_LOG_RING and KVM_CAP_DIRTY_LOG_RING_ACQ_REL";
}

const cases: readonly Case[] = [
  {
    name: "written pages come in order, and anew after a reset",
    unsupported,
    guest: writer,
    run(t) {
      const m = ringed(t, RING_BYTES, 3);
      round(m);
      equal(harvest(m), [FIRST, FIRST + 1, FIRST + 2], "the pages");
      equal(m.vm.resetDirtyRings(), 3, "how many pages are tracked anew");
      round(m);
      equal(harvest(m), [FIRST, FIRST + 1, FIRST + 2], "the pages after the reset");
    },
  },
  {
    name: "a reset takes only what was harvested",
    unsupported,
    guest: writer,
    run(t) {
      const m = ringed(t, RING_BYTES, 2);
      round(m);
      equal(m.vm.resetDirtyRings(), 0, "how many pages before the harvest");
      equal(harvest(m), [FIRST, FIRST + 1], "the pages");
      equal(m.vm.resetDirtyRings(), 2, "how many pages after it");
    },
  },
  {
    name: "a ring that is nearly full exits; harvested and reset, the guest goes on",
    unsupported,
    guest: writer,
    run(t) {
      const wanted = 2 * (PAGE / DirtyGfn.size) - 80;
      const m = ringed(t, PAGE, wanted);
      const seen: number[] = [];
      let full = 0;
      while (!round(m)) {
        full += 1;
        seen.push(...harvest(m));
        m.vm.resetDirtyRings();
      }
      seen.push(...harvest(m));
      ok(full >= 1, "the ring was full at least once");
      // A page may come twice: an exit between its mark and its write lets the write mark it anew.
      equal(
        [...new Set(seen)],
        Array.from({ length: wanted }, (_, index) => FIRST + index),
        "all pages in order",
      );
    },
  },
  {
    name: "rings exclude bitmaps, and come before the first vCPU",
    unsupported,
    guest: writer,
    run(t) {
      const m = ringed(t, RING_BYTES, 1);
      refused(
        () => m.vm.getDirtyLog(0, new Uint8Array(64)),
        "KVM_REQUEST_FAILED",
        "dirty rings, which exclude bitmaps",
      );
      refused(() => t.machine().vm.enableDirtyRing(RING_BYTES), "KVM_INVALID", "before the first vCPU");
    },
  },
  {
    name: "without rings a vCPU has none",
    guest: writer,
    run(t) {
      equal(t.machine().vcpu.dirtyRing, undefined, "the ring");
    },
  },
];

export const dirtyRing: Group = { name: "dirty ring", cases };

/** A machine whose guest has touched its pages (dirty-log.ts says why) and logs from now on. */
function ringed(t: Context, bytes: number, pages: number): Machine {
  const m = t.machine({ beforeVcpus: (vm) => vm.enableDirtyRing(bytes), memoryBytes: 0x200000 });
  m.view.setUint32(0x500, pages, true);
  m.expectOut(0x30, 0);
  m.setSlot({ logDirtyPages: true });
  return m;
}

/** Lets the guest write to all its pages. Returns false if the ring gets full before that. */
function round(m: Machine): boolean {
  for (;;) {
    const exit = m.exit();
    if (exit.reason === ExitReason.DIRTY_RING_FULL) return false;
    ok(exit.reason === ExitReason.IO && exit.out, "the guest is in its loop");
    if (exit.port === 0x10) return true;
  }
}

/** The pages of slot 0 that the ring hands over. */
function harvest(m: Machine): number[] {
  const pages: number[] = [];
  const ring = m.vcpu.dirtyRing;
  ok(ring !== undefined, "a machine with rings gives each vCPU one");
  ring.harvest((slot, page) => {
    equal(slot, 0, "the slot");
    pages.push(page);
  });
  return pages;
}
