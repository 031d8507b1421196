/** Processor models: their leaves, and that the instructions there are go by them. */

import assert from "node:assert/strict";
import { test } from "node:test";
import { Cr4, ExitReason, longMode, type Regs } from "@lodge/kvm";
import { cpuModel } from "./cpu-models.ts";
import { openSoft } from "./open.ts";

const MEMORY_BYTES = 4 << 20;
const TABLES = 0x10000n;
const CODE = 0x1000;

/** Runs 64-bit code of ring 0, without handlers of exceptions, until it halts or shuts down. */
function run(model: string, code: string): { reason: number; regs: Regs } {
  const soft = openSoft();
  const memory = soft.createMemory(MEMORY_BYTES);
  const view = new DataView(memory.buffer);
  // One page of 2 MiB, mapped to itself.
  view.setBigUint64(Number(TABLES), (TABLES + 0x1000n) | 3n, true);
  view.setBigUint64(Number(TABLES) + 0x1000, (TABLES + 0x2000n) | 3n, true);
  view.setBigUint64(Number(TABLES) + 0x2000, 0x83n, true);
  new Uint8Array(memory.buffer).set(Buffer.from(code.replace(/\s/g, ""), "hex"), CODE);
  using vm = soft.createVm(memory);
  vm.setMemorySlot({ slot: 0, guestAddress: 0, sizeBytes: MEMORY_BYTES, memoryOffset: 0 });
  using vcpu = vm.createVcpu(0);
  vcpu.setCpuid(cpuModel(model));
  const sregs = longMode(vcpu.getSregs(), TABLES);
  vcpu.setSregs({ ...sregs, cr4: sregs.cr4 | Cr4.OSXSAVE | Cr4.OSFXSR, idt: { base: 0n, limit: 0 } });
  vcpu.setRegs({ ...vcpu.getRegs(), rip: BigInt(CODE), rflags: 2n, rdx: 0x10n });
  const reason = vcpu.run();
  return { reason, regs: vcpu.getRegs() };
}

// mov eax, 7; xor ecx, ecx; xor edx, edx; xsetbv
const XSETBV = "b807000000 31c9 31d2 0f01d1";
// mov eax, 0xd; xor ecx, ecx; cpuid
const XSAVE_SIZE = "b80d000000 31c9 0fa2";
// vpcmpeqd ymm0, ymm0, ymm0; vpmovmskb edi, ymm0
const AVX2 = "c5fd76c0 c5fdd7f8";
const LZCNT = "f30fbdc2";
const ANDN = "c4e268f2ca";
const HLT = "f4";

test("x86-64-v3 has the psABI's instructions, once XCR0 enables them", () => {
  const before = run("x86-64-v3", XSAVE_SIZE + HLT);
  assert.deepEqual([before.reason, before.regs.rbx, before.regs.rcx], [ExitReason.HLT, 576n, 832n]);
  assert.equal(run("x86-64-v3", AVX2 + HLT).reason, ExitReason.SHUTDOWN);
  const { reason, regs } = run("x86-64-v3", XSETBV + XSAVE_SIZE + AVX2 + HLT);
  assert.deepEqual([reason, regs.rbx, regs.rdi], [ExitReason.HLT, 832n, 0xffffffffn]);
  assert.equal(run("x86-64-v3", LZCNT + HLT).regs.rax, 27n);
  assert.equal(run("x86-64-v3", ANDN + HLT).reason, ExitReason.HLT);
});

test("a feature that is taken away is not there", () => {
  assert.equal(run("x86-64-v3,-bmi1", ANDN + HLT).reason, ExitReason.SHUTDOWN);
});

test("x86-64-v2 has none of them", () => {
  assert.equal(run("x86-64-v2", XSETBV + HLT).reason, ExitReason.SHUTDOWN);
  assert.equal(run("x86-64-v2", ANDN + HLT).reason, ExitReason.SHUTDOWN);
  // There it is BSR.
  assert.equal(run("x86-64-v2", LZCNT + HLT).regs.rax, 4n);
});
