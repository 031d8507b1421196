/** Memory slots: KVM_SET_USER_MEMORY_REGION (api.rst 4.35). */

import { Capability, ExitReason } from "../../src/index.ts";
import { type Group, needs } from "../case.ts";
import { equal, ok, refused } from "../check.ts";
import { long, protected32 } from "../guest.ts";
import { DATA, MEMORY_BYTES, Port } from "../layout.ts";
import type { Machine } from "../machine.ts";
import { Page } from "../tables.ts";

/** A second slot's place in cases that have two: past the first, with a hole before it. */
const SECOND = 0x400000;
const PAGE = 0x1000;
/** 4 GiB: where 32-bit addresses and sizes would wrap. */
const FAR = 2 ** 32;
/** Memory whose first half is slot 0. */
const TWICE = 2 * MEMORY_BYTES;

/** Increments a word of the page that its page tables have at this address. */
const NEAR = 0x7000000;
const aboveFour = long`
        mov rax, [${NEAR + 8}]
        inc rax
        mov [${NEAR + 16}], rax
        hlt`;

export const memory: Group = {
  name: "memory",
  cases: [
    {
      name: "two slots with a hole between them: memory, MMIO, memory",
      guest: protected32`
        mov al, [${MEMORY_BYTES - 1}]
        mov ah, [${MEMORY_BYTES}]
        mov bl, [${SECOND - 1}]
        mov bh, [${SECOND}]
        mov cl, [${SECOND + PAGE - 1}]
        mov ch, [${SECOND + PAGE}]
        hlt`,
      run(t) {
        const m = t.machine({ memoryBytes: TWICE, slots: (vm) => vm.setMemorySlot(firstHalf) });
        m.vm.setMemorySlot({ slot: 1, guestAddress: SECOND, sizeBytes: PAGE, memoryOffset: MEMORY_BYTES });
        m.bytes[MEMORY_BYTES - 1] = 1;
        m.bytes[MEMORY_BYTES] = 4;
        m.bytes[MEMORY_BYTES + PAGE - 1] = 5;
        m.answerRead(MEMORY_BYTES, 2, 1);
        m.answerRead(SECOND - 1, 3, 1);
        m.answerRead(SECOND + PAGE, 6, 1);
        m.expect(ExitReason.HLT);
        const { rax, rbx, rcx } = m.vcpu.getRegs();
        equal([rax, rbx, rcx], [0x0201n, 0x0403n, 0x0605n], "ah:al, bh:bl, ch:cl");
      },
    },
    {
      name: "code that the monitor changes is what the guest executes from then on, by whichever address",
      guest: protected32`
      again:
        call there
        hlt
        jmp again
      there:
        mov eax, 0x11111111
        ret`,
      run(t) {
        const m = t.machine();
        m.vm.setMemorySlot({ slot: 1, guestAddress: SECOND, sizeBytes: MEMORY_BYTES / 2, memoryOffset: 0 });
        for (const [round, written] of [0, m.at("there"), SECOND + m.at("there")].entries()) {
          if (round > 0) {
            m.bytes.fill(round, m.at("there") + 1, m.at("there") + 5);
            m.vm.memoryWritten(written + 1, 4);
          }
          m.expect(ExitReason.HLT);
          equal(m.vcpu.getRegs().rax, BigInt([0x11111111, 0x01010101, 0x02020202][round]!), `eax, ${round}`);
        }
      },
    },
    {
      name: "one piece of memory may appear at two addresses",
      guest: protected32`
        mov dword ptr [${DATA}], 0x1234
        mov eax, [${SECOND}]
        mov dword ptr [${SECOND + 4}], 0x5678
        mov ebx, [${DATA + 4}]
        hlt`,
      run(t) {
        const m = t.machine();
        m.vm.setMemorySlot({ slot: 1, guestAddress: SECOND, sizeBytes: PAGE, memoryOffset: DATA });
        m.expect(ExitReason.HLT);
        const { rax, rbx } = m.vcpu.getRegs();
        equal([rax, rbx], [0x1234n, 0x5678n], "what was read through the other address");
      },
    },
    {
      name: "a read-only slot is read and executed without exits, and a write to it exits as MMIO",
      unsupported: needs(Capability.READONLY_MEM),
      guest: protected32`
        mov eax, [${SECOND}]
        mov dword ptr [${SECOND}], 0x99
        mov ebx, [${SECOND}]
        mov ecx, ${SECOND + 8}
        jmp ecx`,
      run(t) {
        const m = t.machine({ memoryBytes: TWICE, slots: (vm) => vm.setMemorySlot(firstHalf) });
        const rom = { slot: 1, guestAddress: SECOND, sizeBytes: PAGE, memoryOffset: MEMORY_BYTES, readOnly: true };
        m.vm.setMemorySlot(rom);
        m.view.setUint32(MEMORY_BYTES, 0x1234, true);
        // hlt
        m.bytes[MEMORY_BYTES + 8] = 0xf4;
        m.expectWrite(SECOND, 0x99, 4);
        m.expect(ExitReason.HLT);
        const { rax, rbx, rip } = m.vcpu.getRegs();
        equal([rax, rbx], [0x1234n, 0x1234n], "what was read before and after the write");
        equal(rip, BigInt(SECOND + 9), "rip is behind the hlt in the read-only slot");
        equal(m.u32(MEMORY_BYTES), 0x1234, "memory is as it was");
      },
    },
    {
      name: "a deleted slot's memory is MMIO, and comes back with the slot",
      guest: protected32`
        mov byte ptr [${SECOND}], 1
        out 0x10, al
        mov byte ptr [${SECOND}], 2
        out 0x10, al
        mov byte ptr [${SECOND}], 3
        hlt`,
      run(t) {
        const m = t.machine();
        const slot = { slot: 1, guestAddress: SECOND, sizeBytes: PAGE, memoryOffset: DATA };
        m.vm.setMemorySlot(slot);
        m.expectOut(0x10, 0);
        equal(m.u8(DATA), 1, "the first write went to memory");
        m.vm.deleteMemorySlot(1);
        m.expectWrite(SECOND, 2, 1);
        m.expectOut(0x10, 0);
        equal(m.u8(DATA), 1, "the second one did not");
        m.vm.setMemorySlot(slot);
        m.expect(ExitReason.HLT);
        equal(m.u8(DATA), 3, "the third one did again");
      },
    },
    {
      name: "a moved slot is at its new address only",
      guest: protected32`
        mov byte ptr [${SECOND}], 1
        out 0x10, al
        mov byte ptr [${SECOND + PAGE}], 2
        mov byte ptr [${SECOND}], 3
        hlt`,
      run(t) {
        const m = t.machine();
        const slot = { slot: 1, guestAddress: SECOND, sizeBytes: PAGE, memoryOffset: DATA };
        m.vm.setMemorySlot(slot);
        m.expectOut(0x10, 0);
        m.vm.setMemorySlot({ ...slot, guestAddress: SECOND + PAGE });
        m.expectWrite(SECOND, 3, 1);
        equal(m.u8(DATA), 2, "the write to the new address");
      },
    },
    {
      name: "a slot moves while the guest runs in it, again and again; the guest finds it where it is at last",
      guest: long`
        mov edi, ${SECOND}
      again:
        mov [rdi], eax
        mov [rdi + ${PAGE}], eax
        inc eax
        test byte ptr [${DATA + 2 * PAGE}], 1
        jz again
        mov dword ptr [rdi + 4], 0x1111
        mov dword ptr [rdi + ${PAGE + 4}], 0x2222
        mov al, 0
        mov dx, ${Port.DONE}
        out dx, al`,
      async run(t) {
        const m = t.machine({ vcpus: 0 });
        const slot = { slot: 1, guestAddress: SECOND, sizeBytes: PAGE, memoryOffset: DATA };
        m.vm.setMemorySlot(slot);
        const vcpu = await t.thread(m, { id: 0 });
        // What the guest writes to the address without memory exits; its thread passes over that.
        const stopped = vcpu.expectOut(Port.DONE, 0, { passOverMmio: true });
        for (let times = 0; times < 50; times++) {
          m.vm.setMemorySlot({ ...slot, guestAddress: SECOND + PAGE });
          m.vm.setMemorySlot(slot);
        }
        m.bytes[DATA + 2 * PAGE] = 1;
        await stopped;
        equal(m.u32(DATA + 4), 0x1111, "the last write to the slot");
        ok(vcpu.passed > 0, "writes beside the slot exited");
      },
    },
    {
      name: "a slot is deleted while the guest runs in it: the guest's next access exits",
      guest: long`
        mov edi, ${SECOND}
        out 0x50, al
      again:
        mov [rdi], eax
        inc eax
        jmp again`,
      async run(t) {
        const m = t.machine({ vcpus: 0 });
        m.vm.setMemorySlot({ slot: 1, guestAddress: SECOND, sizeBytes: PAGE, memoryOffset: DATA });
        const ready = t.notifier();
        m.vm.assignIoeventfd(ready, { bus: "pio", address: 0x50, length: 1 });
        const rang = t.rings(ready);
        const vcpu = await t.thread(m, { id: 0 });
        const stopped = vcpu.run();
        await rang;
        m.vm.deleteMemorySlot(1);
        const left = m.u32(DATA);
        const exit = await stopped;
        equal(
          { ...exit, value: 0n },
          { reason: ExitReason.MMIO, write: true, address: SECOND, length: 4, value: 0n },
          "",
        );
        equal(m.u32(DATA), left, "nothing was written to memory once the slot was deleted");
      },
    },
    {
      name: "a slot that overlaps another is refused, and changes nothing",
      guest: protected32`
        mov al, [${MEMORY_BYTES}]
        hlt`,
      run(t) {
        const m = t.machine();
        const overlapping = { slot: 1, guestAddress: MEMORY_BYTES - PAGE, sizeBytes: 2 * PAGE, memoryOffset: 0 };
        refused(() => m.vm.setMemorySlot(overlapping), "KVM_REQUEST_FAILED", "it overlaps another slot");
        m.answerRead(MEMORY_BYTES, 0, 1);
      },
    },
    {
      name: "a slot keeps its size and its read-only flag until it is deleted",
      unsupported: needs(Capability.READONLY_MEM),
      guest: protected32`hlt`,
      run(t) {
        const m = t.machine();
        const slot = { slot: 1, guestAddress: SECOND, sizeBytes: PAGE, memoryOffset: DATA };
        m.vm.setMemorySlot(slot);
        const refusal = "keeps its size and read-only flag";
        refused(() => m.vm.setMemorySlot({ ...slot, sizeBytes: 2 * PAGE }), "KVM_REQUEST_FAILED", refusal);
        refused(() => m.vm.setMemorySlot({ ...slot, readOnly: true }), "KVM_REQUEST_FAILED", refusal);
        m.vm.deleteMemorySlot(1);
        m.vm.setMemorySlot({ ...slot, sizeBytes: 2 * PAGE, readOnly: true });
      },
    },
    {
      name: "a slot is refused that is not whole pages, not within the memory, or has no such number",
      guest: protected32`hlt`,
      run(t) {
        const m = t.machine();
        const slot = { slot: 1, guestAddress: SECOND, sizeBytes: PAGE, memoryOffset: DATA };
        const invalid = (change: Partial<typeof slot>, words: string) =>
          refused(() => m.vm.setMemorySlot({ ...slot, ...change }), "KVM_INVALID", words);
        invalid({ guestAddress: SECOND + 1 }, "multiples of 4 KiB");
        invalid({ sizeBytes: 100 }, "multiples of 4 KiB");
        invalid({ sizeBytes: 0 }, "at least one page");
        invalid({ memoryOffset: -PAGE }, "multiples of 4 KiB");
        invalid({ memoryOffset: Number.NaN }, "multiples of 4 KiB");
        invalid({ sizeBytes: MEMORY_BYTES }, "ends at 0x140000 of a memory of 0x100000 bytes");
        invalid({ slot: -1 }, "memory slot -1");
        invalid({ slot: 1.5 }, "memory slot 1.5");
        invalid({ slot: 1 << 20 }, "memory slot 1048576");
        refused(() => m.vm.deleteMemorySlot(1), "KVM_INVALID", "there is none to delete");
      },
    },
    {
      name: "the guest's addresses go on above 4 GiB",
      guest: aboveFour,
      run(t) {
        const m = t.machine();
        m.vm.setMemorySlot({ slot: 1, guestAddress: FAR, sizeBytes: PAGE, memoryOffset: DATA });
        incrementFar(m, DATA);
      },
    },
    {
      // What is not touched costs nothing: the 5 GiB are reserved only.
      name: "a machine's memory goes on above 4 GiB",
      unsupported: (host) =>
        host.hypervisor.kind === "soft" ? "a software machine's memory and its own share 4 GiB" : undefined,
      guest: aboveFour,
      run(t) {
        const m = t.machine({ memoryBytes: FAR + 2 ** 30, slots: (vm) => vm.setMemorySlot(firstHalf) });
        m.vm.setMemorySlot({ slot: 1, guestAddress: FAR, sizeBytes: PAGE, memoryOffset: FAR + PAGE });
        incrementFar(m, FAR + PAGE);
      },
    },
    {
      name: "two machines over one memory see each other's writes",
      guest: protected32`
      start:
        inc dword ptr [${DATA}]
        hlt`,
      run(t) {
        const first = t.machine();
        const second = t.machine({ memory: first.memory });
        for (const m of [first, second, first, second]) {
          m.reset("start");
          m.expect(ExitReason.HLT);
        }
        equal(first.u32(DATA), 4, "the counter");
      },
    },
  ],
};

const firstHalf = { slot: 0, guestAddress: 0, sizeBytes: MEMORY_BYTES, memoryOffset: 0 };

/** Lets {@link aboveFour} work on the page at FAR, which is memory from `offset` on. */
function incrementFar(m: Machine, offset: number): void {
  m.pages.map(BigInt(NEAR), FAR, Page.PRESENT | Page.WRITE);
  m.view.setBigUint64(offset + 8, 0x1234n, true);
  m.expect(ExitReason.HLT);
  equal(m.u64(offset + 16), 0x1235n, "what the guest wrote");
}
