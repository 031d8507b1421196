/** Memory-mapped input and output: an access to memory that no slot backs is KVM_EXIT_MMIO (api.rst section 5). */

import { ExitReason } from "../../src/index.ts";
import type { Group } from "../case.ts";
import { equal } from "../check.ts";
import { long, protected32, user } from "../guest.ts";
import { DATA, MEMORY_BYTES, MMIO } from "../layout.ts";

export const mmio: Group = {
  name: "mmio",
  cases: [
    {
      name: "writes of 1, 2, 4 and 8 bytes exit with address, width and value",
      guest: long`
        mov rbx, ${MMIO}
        mov rax, 0x1122334455667788
        mov [rbx], al
        mov [rbx + 2], ax
        mov [rbx + 4], eax
        mov [rbx + 8], rax
        hlt`,
      run(t) {
        const m = t.machine();
        m.expectWrite(MMIO, 0x88, 1);
        m.expectWrite(MMIO + 2, 0x7788, 2);
        m.expectWrite(MMIO + 4, 0x55667788, 4);
        m.expectWrite(MMIO + 8, 0x1122334455667788n, 8);
        m.expect(ExitReason.HLT);
      },
    },
    {
      name: "reads of 1, 2, 4 and 8 bytes take the answer's low bytes",
      guest: long`
        mov rdi, ${MMIO}
        mov rax, -1
        mov rbx, -1
        mov rcx, -1
        mov al, [rdi]
        mov bx, [rdi + 2]
        mov ecx, [rdi + 4]
        mov rdx, [rdi + 8]
        hlt`,
      run(t) {
        const m = t.machine();
        m.answerRead(MMIO, 0x11, 1);
        m.answerRead(MMIO + 2, 0x2222, 2);
        m.answerRead(MMIO + 4, 0x33333333, 4);
        m.answerRead(MMIO + 8, 0x8877665544332211n, 8);
        m.expect(ExitReason.HLT);
        const { rax, rbx, rcx, rdx } = m.vcpu.getRegs();
        equal(rax, 0xffffffffffffff11n, "rax");
        equal(rbx, 0xffffffffffff2222n, "rbx");
        equal(rcx, 0x33333333n, "rcx");
        equal(rdx, 0x8877665544332211n, "rdx");
      },
    },
    {
      name: "movzx and movsx extend what was read",
      guest: long`
        mov rdi, ${MMIO}
        movzx eax, byte ptr [rdi]
        movsx rbx, byte ptr [rdi]
        movzx ecx, word ptr [rdi]
        movsx rdx, word ptr [rdi]
        movsxd rsi, dword ptr [rdi]
        hlt`,
      run(t) {
        const m = t.machine();
        m.answerRead(MMIO, 0x80, 1);
        m.answerRead(MMIO, 0x80, 1);
        m.answerRead(MMIO, 0x8000, 2);
        m.answerRead(MMIO, 0x8000, 2);
        m.answerRead(MMIO, 0x80000000, 4);
        m.expect(ExitReason.HLT);
        const { rax, rbx, rcx, rdx, rsi } = m.vcpu.getRegs();
        equal(rax, 0x80n, "movzx of a byte");
        equal(rbx, 0xffffffffffffff80n, "movsx of a byte");
        equal(rcx, 0x8000n, "movzx of a word");
        equal(rdx, 0xffffffffffff8000n, "movsx of a word");
        equal(rsi, 0xffffffff80000000n, "movsxd");
      },
    },
    {
      name: "read-modify-write is a read exit, then a write exit with the result",
      guest: protected32`
        mov edi, ${MMIO}
        add dword ptr [edi], 5
        mov eax, 0x80
        xchg eax, [edi]
        lock or byte ptr [edi], 1
        hlt`,
      run(t) {
        const m = t.machine();
        m.answerRead(MMIO, 0xfffffffe, 4);
        m.expectWrite(MMIO, 3, 4);
        m.answerRead(MMIO, 0x1234, 4);
        m.expectWrite(MMIO, 0x80, 4);
        m.answerRead(MMIO, 0x40, 1);
        m.expectWrite(MMIO, 0x41, 1);
        m.expect(ExitReason.HLT);
        equal(m.vcpu.getRegs().rax, 0x1234n, "what xchg read");
      },
    },
    {
      name: "a comparison with memory that is none sets the flags from the answer",
      guest: protected32`
        mov edi, ${MMIO}
        mov al, 7
        cmp [edi], al
        sete bl
        test byte ptr [edi], 0x80
        setnz bh
        hlt`,
      run(t) {
        const m = t.machine();
        m.answerRead(MMIO, 7, 1);
        m.answerRead(MMIO, 0x80, 1);
        m.expect(ExitReason.HLT);
        equal(m.vcpu.getRegs().rbx & 0xffffn, 0x0101n, "bh, bl");
      },
    },
    {
      name: "rep movsb to MMIO writes each byte, rep movsd from it reads each word",
      guest: protected32`
        cld
        mov esi, ${DATA}
        mov edi, ${MMIO}
        mov ecx, 3
        rep movsb
        mov esi, ${MMIO}
        mov edi, ${DATA + 16}
        mov ecx, 2
        rep movsd
        hlt`,
      run(t) {
        const m = t.machine();
        m.bytes.set([0xa, 0xb, 0xc], DATA);
        m.expectWrite(MMIO, 0xa, 1);
        m.expectWrite(MMIO + 1, 0xb, 1);
        m.expectWrite(MMIO + 2, 0xc, 1);
        m.answerRead(MMIO, 0x11111111, 4);
        m.answerRead(MMIO + 4, 0x22222222, 4);
        m.expect(ExitReason.HLT);
        equal([m.u32(DATA + 16), m.u32(DATA + 20)], [0x11111111, 0x22222222], "what was copied");
      },
    },
    {
      name: "rep stosw to MMIO goes downwards with the direction flag set",
      guest: protected32`
        std
        mov edi, ${MMIO + 4}
        mov eax, 0xbeef
        mov ecx, 3
        rep stosw
        hlt`,
      run(t) {
        const m = t.machine();
        for (const address of [MMIO + 4, MMIO + 2, MMIO]) m.expectWrite(address, 0xbeef, 2);
        m.expect(ExitReason.HLT);
      },
    },
    {
      // The part in memory is done at once; only what lies beyond exits.
      name: "a write across the end of memory stores the first bytes and exits for the rest",
      guest: protected32`
        mov dword ptr [${MEMORY_BYTES - 2}], 0x44332211
        hlt`,
      run(t) {
        const m = t.machine();
        m.expectWrite(MEMORY_BYTES, 0x4433, 2);
        m.expect(ExitReason.HLT);
        equal(m.u16(MEMORY_BYTES - 2), 0x2211, "the bytes in memory");
      },
    },
    {
      name: "a read across the end of memory joins both",
      guest: protected32`
        mov eax, [${MEMORY_BYTES - 1}]
        hlt`,
      run(t) {
        const m = t.machine();
        m.bytes[MEMORY_BYTES - 1] = 0x11;
        m.answerRead(MEMORY_BYTES, 0x443322, 3);
        m.expect(ExitReason.HLT);
        equal(m.vcpu.getRegs().rax, 0x44332211n, "eax");
      },
    },
    {
      name: "a 16-byte store exits for each half",
      guest: long`
        movdqu xmm0, [${DATA}]
        mov rdi, ${MMIO}
        movups [rdi], xmm0
        hlt`,
      run(t) {
        const m = t.machine();
        m.view.setBigUint64(DATA, 0x0706050403020100n, true);
        m.view.setBigUint64(DATA + 8, 0x0f0e0d0c0b0a0908n, true);
        m.expectWrite(MMIO, 0x0706050403020100n, 8);
        m.expectWrite(MMIO + 8, 0x0f0e0d0c0b0a0908n, 8);
        m.expect(ExitReason.HLT);
      },
    },
    {
      name: "ring 3 reaches MMIO through its page tables",
      guest: user`
        mov rbx, ${MMIO}
        mov eax, [rbx]
        add eax, 1
        mov [rbx + 4], eax
        jmp .`,
      run(t) {
        const m = t.machine();
        m.answerRead(MMIO, 0x41, 4);
        m.expectWrite(MMIO + 4, 0x42, 4);
      },
    },
  ],
};
