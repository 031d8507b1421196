/** Code that one vCPU writes and another has executed: only what was made of that page is forgotten. */

import assert from "node:assert/strict";
import { test } from "node:test";
import { ExitReason, flatProtectedMode } from "@lodge/kvm";
import { openSoft } from "./open.ts";
import type { SoftVcpu } from "./vcpu.ts";
import type { SoftVm } from "./vm.ts";

const MEMORY_BYTES = 2 ** 20;
const RUNNER = 0x1000;
const WRITER = 0x2000;
const CHANGED = 0x3000;
const STACK = 0x8000;

/** mov $value, %eax; ret */
const piece = (value: number) => [0xb8, value, 0, 0, 0, 0xc3];

function machine(): { vm: SoftVm; runner: SoftVcpu; writer: SoftVcpu; bytes: Uint8Array } {
  const soft = openSoft();
  const memory = soft.createMemory(MEMORY_BYTES);
  const vm = soft.createVm(memory) as SoftVm;
  vm.setMemorySlot({ slot: 0, guestAddress: 0, sizeBytes: MEMORY_BYTES, memoryOffset: 0 });
  const bytes = new Uint8Array(memory.buffer);
  // call CHANGED; call RUNNER + 0x100; hlt; jmp RUNNER
  bytes.set([0xe8, 0xfb, 0x1f, 0, 0, 0xe8, 0xf6, 0, 0, 0, 0xf4, 0xeb, 0xf3], RUNNER);
  bytes.set([0xc3], RUNNER + 0x100);
  bytes.set(piece(1), CHANGED);
  // movb $2, CHANGED + 1; hlt
  bytes.set([0xc6, 0x05, 0x01, 0x30, 0, 0, 2, 0xf4], WRITER);
  const [runner, writer] = [RUNNER, WRITER].map((rip, id) => {
    const vcpu = vm.createVcpu(id) as SoftVcpu;
    vcpu.setSregs(flatProtectedMode(vcpu.getSregs()));
    vcpu.setRegs({ ...vcpu.getRegs(), rip: BigInt(rip), rsp: BigInt(STACK) });
    return vcpu;
  }) as [SoftVcpu, SoftVcpu];
  return { vm, runner, writer, bytes };
}

function runToHalt(vcpu: SoftVcpu): bigint {
  assert.equal(vcpu.run(), ExitReason.HLT);
  return vcpu.getRegs().rax;
}

test("another vCPU's write to a page of code is seen, and the code of other pages stays", () => {
  const { vm, runner, writer } = machine();
  using _vm = vm;
  using _runner = runner;
  using _writer = writer;
  for (let round = 0; round < 2; round++) assert.equal(runToHalt(runner), 1n);
  const { blocks } = runner.core.kept;
  runToHalt(writer);
  assert.equal(runToHalt(runner), 2n);
  // The block in the changed page is dead, and was decoded anew; nothing else was.
  assert.equal(runner.core.kept.blocks, blocks + 1);
});

test("a page whose code all have forgotten is written without anybody being asked", () => {
  const { vm, runner, writer } = machine();
  using _vm = vm;
  using _runner = runner;
  using _writer = writer;
  runToHalt(runner);
  const page = CHANGED / 4096;
  assert.equal(vm.map.code.has(page), true);
  runToHalt(writer);
  assert.equal(vm.map.code.has(page), false);
  const { end } = vm.map.codeWrites;
  writer.setRegs({ ...writer.getRegs(), rip: BigInt(WRITER) });
  runToHalt(writer);
  assert.equal(vm.map.codeWrites.end, end);
});

test("what the monitor writes is forgotten as well, and costs nothing where no code is", () => {
  const { vm, runner, writer, bytes } = machine();
  using _vm = vm;
  using _runner = runner;
  using _writer = writer;
  runToHalt(runner);
  const { end } = vm.map.codeWrites;
  vm.memoryWritten(STACK, 0x10000);
  assert.equal(vm.map.codeWrites.end, end);
  bytes.set(piece(7), CHANGED);
  vm.memoryWritten(CHANGED + 1, 1);
  assert.equal(runToHalt(runner), 7n);
});

test("a write through an entry from before the page held code is seen when all have looked", () => {
  const { vm, runner, writer, bytes } = machine();
  using _vm = vm;
  using _runner = runner;
  using _writer = writer;
  const other = vm.board.openVcpu();
  // Another vCPU that is in the guest, and has not looked.
  vm.record.vcpuOpened(2, other);
  vm.board.enterGuest(other);
  assert.equal(runToHalt(runner), 1n);
  assert.equal(runToHalt(runner), 1n);
  bytes[CHANGED + 1] = 3;
  // It may still write: what was decoded stays.
  assert.equal(runToHalt(runner), 1n);
  vm.board.take(other);
  vm.board.looked(other);
  assert.equal(runToHalt(runner), 3n);
  vm.record.vcpuClosed(2);
  vm.board.closeVcpu(other);
});
