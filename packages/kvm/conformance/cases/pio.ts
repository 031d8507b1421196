/** Port input and output: KVM_EXIT_IO (api.rst section 5). `page.io` says direction, port, width and how many. */

import { ExitReason } from "../../src/index.ts";
import type { Group } from "../case.ts";
import { CheckFailed, equal } from "../check.ts";
import { showExit } from "../exit.ts";
import { long, protected32, real } from "../guest.ts";
import { DATA } from "../layout.ts";
import type { Machine } from "../machine.ts";

const PORT = 0x3f8;

export const pio: Group = {
  name: "pio",
  cases: [
    {
      name: "out exits with port, width and value, the port in the instruction or in dx",
      guest: protected32`
        mov eax, 0x12345678
        out 0x10, al
        out 0x20, ax
        out 0x30, eax
        mov dx, 0xfedc
        out dx, al
        out dx, ax
        out dx, eax
        hlt`,
      run(t) {
        const m = t.machine();
        m.expectOut(0x10, 0x78, 1);
        m.expectOut(0x20, 0x5678, 2);
        m.expectOut(0x30, 0x12345678, 4);
        m.expectOut(0xfedc, 0x78, 1);
        m.expectOut(0xfedc, 0x5678, 2);
        m.expectOut(0xfedc, 0x12345678, 4);
        m.expect(ExitReason.HLT);
      },
    },
    {
      // The answer is taken over by the next run, and changes no more of the register than the width says.
      name: "in replaces al or ax alone, and eax with the upper half of rax",
      guest: long`
        mov rax, 0x1111111111111111
        in al, 0x10
        mov rbx, rax
        in ax, 0x20
        mov rcx, rax
        mov dx, ${PORT}
        in eax, dx
        hlt`,
      run(t) {
        const m = t.machine();
        m.answerIn(0x10, 0xaa, 1);
        m.answerIn(0x20, 0xbbbb, 2);
        m.answerIn(PORT, 0xcccccccc, 4);
        m.expect(ExitReason.HLT);
        const { rax, rbx, rcx } = m.vcpu.getRegs();
        equal(rbx, 0x11111111111111aan, "rax after the 1-byte in");
        equal(rcx, 0x111111111111bbbbn, "rax after the 2-byte in");
        equal(rax, 0xccccccccn, "rax after the 4-byte in");
      },
    },
    {
      name: "rep outsb hands over the bytes in order",
      guest: protected32`
        mov esi, ${DATA}
        mov ecx, 5
        mov dx, ${PORT}
        cld
        rep outsb
        hlt`,
      run(t) {
        const m = t.machine();
        m.bytes.set([1, 2, 3, 4, 5], DATA);
        equal(collectOut(m, 1, 5), [1, 2, 3, 4, 5], "the values");
        m.expect(ExitReason.HLT);
        const { rsi, rcx } = m.vcpu.getRegs();
        equal({ rsi, rcx }, { rsi: BigInt(DATA + 5), rcx: 0n }, "the counters afterwards");
      },
    },
    {
      name: "rep outsw goes downwards with the direction flag set",
      guest: protected32`
        mov esi, ${DATA + 4}
        mov ecx, 3
        mov dx, ${PORT}
        std
        rep outsw
        hlt`,
      run(t) {
        const m = t.machine();
        new Uint16Array(m.memory.buffer).set([0x1111, 0x2222, 0x3333], DATA / 2);
        equal(collectOut(m, 2, 3), [0x3333, 0x2222, 0x1111], "the values");
        m.expect(ExitReason.HLT);
        equal(m.vcpu.getRegs().rsi, BigInt(DATA - 2), "rsi afterwards");
      },
    },
    {
      name: "rep insb stores the answers in order",
      guest: protected32`
        mov edi, ${DATA}
        mov ecx, 6
        mov dx, ${PORT}
        cld
        rep insb
        hlt`,
      run(t) {
        const m = t.machine();
        answerAll(m, 1, [10, 20, 30, 40, 50, 60]);
        m.expect(ExitReason.HLT);
        equal(m.bytes.slice(DATA, DATA + 7), Uint8Array.of(10, 20, 30, 40, 50, 60, 0), "memory");
        equal(m.vcpu.getRegs().rdi, BigInt(DATA + 6), "rdi afterwards");
      },
    },
    {
      name: "rep insd goes downwards with the direction flag set",
      guest: protected32`
        mov edi, ${DATA + 8}
        mov ecx, 3
        mov dx, ${PORT}
        std
        rep insd
        hlt`,
      run(t) {
        const m = t.machine();
        answerAll(m, 4, [0x11111111, 0x22222222, 0x33333333]);
        m.expect(ExitReason.HLT);
        const stored = [m.u32(DATA), m.u32(DATA + 4), m.u32(DATA + 8)];
        equal(stored, [0x33333333, 0x22222222, 0x11111111], "memory");
        equal(m.vcpu.getRegs().rdi, BigInt(DATA - 4), "rdi afterwards");
      },
    },
    {
      name: "a repeated string of no elements does not exit",
      guest: protected32`
        xor ecx, ecx
        mov esi, ${DATA}
        mov edi, ${DATA}
        mov dx, ${PORT}
        rep outsb
        rep insb
        mov al, 1
        out 0x10, al`,
      run(t) {
        t.machine().expectOut(0x10, 1);
      },
    },
    {
      // An in that was answered is complete only after the next run; state read before that is the old one.
      name: "completeExit takes over the answer without running on",
      guest: real`
        in al, 0x10
      next:
        inc bx
        hlt`,
      run(t) {
        const m = t.machine();
        m.answerIn(0x10, 0x77);
        m.vcpu.completeExit();
        const { rax, rbx, rip } = m.vcpu.getRegs();
        equal(rax & 0xffn, 0x77n, "al");
        equal(rip, BigInt(m.at("next")), "rip is behind the in");
        equal(rbx, 0n, "the next instruction has not run");
        m.expect(ExitReason.HLT);
        equal(m.vcpu.getRegs().rbx, 1n, "and then it runs");
      },
    },
  ],
};

/** The values of a repeated out. How many come with one exit is the implementation's choice. */
function collectOut(m: Machine, size: number, total: number): number[] {
  const values: number[] = [];
  while (values.length < total) {
    const exit = m.exit();
    if (exit.reason !== ExitReason.IO || !exit.out || exit.port !== PORT || exit.size !== size) {
      throw new CheckFailed(`expected an out of ${size} bytes each, got ${showExit(exit)}`);
    }
    values.push(...exit.values);
  }
  return values;
}

/** Answers a repeated in, however many elements come with one exit. */
function answerAll(m: Machine, size: number, values: readonly number[]): void {
  let given = 0;
  while (given < values.length) {
    const exit = m.exit();
    if (exit.reason !== ExitReason.IO || exit.out || exit.port !== PORT || exit.size !== size) {
      throw new CheckFailed(`expected an in of ${size} bytes each, got ${showExit(exit)}`);
    }
    for (let index = 0; index < exit.values.length; index++) m.vcpu.page.io.answer(values[given++] ?? 0, index);
  }
  equal(given, values.length, "how many elements the guest read");
}
