import assert from "node:assert/strict";
import { test } from "node:test";
import { ExitReason } from "./exit-reason.ts";
import { VcpuEvents } from "./layout/events.ts";
import { Regs, Sregs } from "./layout/registers.ts";
import { Run, RunExit } from "./layout/run.ts";
import { RunPage } from "./run-page.ts";

const PAGES = 3 * 4096;

function page(): RunPage {
  return new RunPage(new ArrayBuffer(PAGES));
}

test("a port write, of each width and repeated", () => {
  const run = page();
  for (const size of [1, 2, 4]) {
    const io = { direction: 1, size, port: 0x3f8, count: 3, dataOffset: 4096 };
    RunExit.io.write(run.view, Run.offset.exit, io);
    new Uint8Array(run.view.buffer).set([0xf1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12], 4096);
    assert.deepEqual(
      { isOut: run.io.isOut, size: run.io.size, port: run.io.port, count: run.io.count, at: run.io.dataOffset },
      { isOut: true, size, port: 0x3f8, count: 3, at: 4096 },
    );
    const expected = { 1: [0xf1, 2, 3], 2: [0x2f1, 0x403, 0x605], 4: [0x040302f1, 0x08070605, 0x0c0b0a09] }[size];
    assert.deepEqual(
      [0, 1, 2].map((index) => run.io.value(index)),
      expected,
    );
  }
});

test("a port read is answered where the kernel looks, and nothing beside it changes", () => {
  for (const size of [1, 2, 4]) {
    const run = page();
    RunExit.io.write(run.view, Run.offset.exit, { direction: 0, size, port: 0x60, count: 2, dataOffset: 4096 });
    const bytes = new Uint8Array(run.view.buffer);
    bytes.fill(0xee, 4096, 4112);
    run.io.answer(0xd4c3b2a1, 1);
    const answer = [0xa1, 0xb2, 0xc3, 0xd4].slice(0, size);
    const wanted = [...Array<number>(size).fill(0xee), ...answer, ...Array<number>(16 - 2 * size).fill(0xee)];
    assert.deepEqual([...bytes.subarray(4096, 4112)], wanted);
    assert.equal(run.io.isOut, false);
  }
});

test("memory accesses of every width", () => {
  const run = page();
  const data = Uint8Array.of(0x11, 0x22, 0x33, 0x84, 0x55, 0x66, 0x77, 0x98);
  const low = { 1: 0x11, 2: 0x2211, 4: 0x84332211, 8: 0x84332211 };
  for (const len of [1, 2, 4, 8] as const) {
    RunExit.mmio.write(run.view, Run.offset.exit, { physAddr: 0xfee0_0000 + 2 ** 40, data, len, isWrite: 1 });
    assert.equal(run.mmio.address, 0xfee0_0000 + 2 ** 40);
    assert.equal(run.mmio.length, len);
    assert.equal(run.mmio.isWrite, true);
    assert.equal(run.mmio.low, low[len]);
  }
  assert.equal(run.mmio.high, 0x98776655);
  run.mmio.answer(0xdeadbeef, 0x12345678);
  assert.deepEqual(
    RunExit.mmio.read(run.view, Run.offset.exit).data,
    Uint8Array.of(0xef, 0xbe, 0xad, 0xde, 0x78, 0x56, 0x34, 0x12),
  );
});

test("MSR accesses and hypercalls are read and answered", () => {
  const run = page();
  RunExit.msr.write(run.view, Run.offset.exit, {
    error: 0,
    reason: 4,
    index: 0xc000_0080,
    data: 0x8000_0000_0000_0001n,
  });
  assert.deepEqual([run.msr.index, run.msr.reason, run.msr.data], [0xc000_0080, 4, 0x8000_0000_0000_0001n]);
  run.msr.error = true;
  run.msr.data = 7n;
  assert.deepEqual(RunExit.msr.read(run.view, Run.offset.exit), { error: 1, reason: 4, index: 0xc000_0080, data: 7n });
  run.msr.error = false;
  assert.equal(RunExit.msr.read(run.view, Run.offset.exit).error, 0);

  const args = new Uint8Array(48);
  args[8] = 0xab;
  RunExit.hypercall.write(run.view, Run.offset.exit, { nr: 12n, args, ret: 0n, flags: 0n });
  assert.deepEqual([run.hypercall.nr, run.hypercall.argument(0), run.hypercall.argument(1)], [12n, 0n, 0xabn]);
  run.hypercall.result = 2n ** 64n - 1n;
  assert.equal(RunExit.hypercall.read(run.view, Run.offset.exit).ret, 2n ** 64n - 1n);
});

test("the other exits", () => {
  const run = page();
  const at = Run.offset.exit;
  RunExit.debug.write(run.view, at, { exception: 1, pc: 0xffff_8000_0000_0000n, dr6: 0x4000n, dr7: 0x400n });
  assert.deepEqual(
    [run.debug.exception, run.debug.pc, run.debug.dr6, run.debug.dr7],
    [1, 0xffff_8000_0000_0000n, 0x4000n, 0x400n],
  );
  RunExit.hw.write(run.view, at, { hardwareExitReason: 33n });
  assert.equal(run.hardwareExitReason, 33n);
  RunExit.eoi.write(run.view, at, { vector: 0x31 });
  assert.equal(run.eoiVector, 0x31);
  RunExit.notify.write(run.view, at, { flags: 1 });
  assert.equal(run.notifyFlags, 1);
  RunExit.tprAccess.write(run.view, at, { rip: 0x1234n, isWrite: 1 });
  assert.equal(run.tprAccessRip, 0x1234n);
  RunExit.systemEvent.write(run.view, at, { type: 2, ndata: 0, data: new Uint8Array(128) });
  assert.equal(run.systemEvent.type, 2);
  RunExit.memoryFault.write(run.view, at, { flags: 8n, gpa: 2 ** 40, size: 4096 });
  assert.deepEqual([run.memoryFault.address, run.memoryFault.size], [2 ** 40, 4096]);
});

test("counts that do not fit are cut to what the page holds", () => {
  const run = page();
  const data = new Uint8Array(128).fill(1);
  RunExit.internal.write(run.view, Run.offset.exit, { suberror: 3, ndata: 0xffff_ffff, data });
  assert.equal(run.internal.data.length, 16);
  const failure = { suberror: 1, ndata: 4, flags: 1n, insnSize: 255, insnBytes: new Uint8Array(15).fill(0x90) };
  RunExit.emulationFailure.write(run.view, Run.offset.exit, failure);
  assert.deepEqual(run.internal.instruction, new Uint8Array(15).fill(0x90));
});

test("no exit reaches outside the page, whatever it says", () => {
  const around = new ArrayBuffer(PAGES + 8192);
  new Uint8Array(around).fill(0x5a);
  const run = new RunPage(around, 4096, PAGES);
  for (const dataOffset of [PAGES - 1, PAGES, PAGES + 100, 2 ** 32, 2 ** 53]) {
    RunExit.io.write(run.view, Run.offset.exit, { direction: 1, size: 4, port: 0, count: 1, dataOffset });
    assert.throws(() => run.io.value(), RangeError);
    assert.throws(() => run.io.answer(0), RangeError);
  }
  RunExit.io.write(run.view, Run.offset.exit, { direction: 1, size: 255, port: 0, count: 1, dataOffset: 4096 });
  assert.equal(run.io.value(), 0x5a5a5a5a);
  assert.ok(new Uint8Array(around, 0, 4096).every((byte) => byte === 0x5a));
  assert.ok(new Uint8Array(around, 4096 + PAGES).every((byte) => byte === 0x5a));
});

test("the page's head", () => {
  const run = page();
  const head = Run.decode(run.view);
  const events = VcpuEvents.decode(VcpuEvents.allocate());
  Run.write(run.view, 0, {
    ...head,
    exitReason: ExitReason.HLT,
    readyForInterruptInjection: 1,
    ifFlag: 1,
    flags: 2,
    cr8: 5n,
    apicBase: 0xfee0_0900n,
  });
  assert.deepEqual(
    [run.exitReason, run.readyForInterruptInjection, run.ifFlag, run.flags, run.cr8, run.apicBase],
    [ExitReason.HLT, true, true, 2, 5n, 0xfee0_0900n],
  );
  run.immediateExit = true;
  run.requestInterruptWindow = true;
  run.cr8 = 9n;
  run.validRegs = 7n;
  run.dirtyRegs = 3n;
  const { immediateExit, requestInterruptWindow, cr8, kvmValidRegs, kvmDirtyRegs } = Run.decode(run.view);
  assert.deepEqual([immediateExit, requestInterruptWindow, cr8, kvmValidRegs, kvmDirtyRegs], [1, 1, 9n, 7n, 3n]);
  assert.equal(run.immediateExit, true);
  run.immediateExit = false;
  assert.equal(run.immediateExit, false);

  run.syncRegs = { ...Regs.decode(Regs.allocate()), rip: 0x1000n };
  run.syncSregs = { ...Sregs.decode(Sregs.allocate()), cr3: 0x2000n };
  run.syncEvents = { ...events, sipiVector: 9 };
  assert.deepEqual([run.syncRegs.rip, run.syncSregs.cr3, run.syncEvents.sipiVector], [0x1000n, 0x2000n, 9]);
});
