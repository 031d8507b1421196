import assert from "node:assert/strict";
import { test } from "node:test";
import { Random } from "../../testing/random.ts";
import { type SoftProcessor, softProcessor } from "../../testing/soft-processor.ts";
import { State, Tlb, Vector } from "../cpu/layout.ts";
import { AccessKind, Outcome } from "./access.ts";
import { Bus } from "./mmio.ts";
import { TlbTable } from "./tlb.ts";

const MEMORY = 0x20000;
const { WRITE, LOCK } = AccessKind;

/** Without paging: linear addresses are physical ones. */
function flat(): SoftProcessor {
  return softProcessor(MEMORY);
}

/** With 32-bit paging: page n of the first 32 is page n of memory, except for those that `change` says otherwise. */
function paged(change: (put: (page: number, entry: number) => void) => void): SoftProcessor {
  const soft = flat();
  soft.view.setUint32(0x4000, 0x5007, true);
  const put = (page: number, entry: number) => soft.view.setUint32(0x5000 + page * 4, entry, true);
  for (let page = 0; page < 32; page++) put(page, page * 4096 + 0x67);
  change(put);
  soft.cpu.state.set64(State.cr3, 0x4000n);
  soft.cpu.state.set64(State.cr0, 0x80010031n);
  soft.cpu.modeMayHaveChanged();
  return soft;
}

function put64(soft: SoftProcessor, value: bigint): void {
  soft.cpu.state.set64(State.transfer, value);
}
function got64(soft: SoftProcessor): bigint {
  return soft.cpu.state.get64(State.transfer);
}

test("an access across pages reads and writes both, and writes neither when one faults", () => {
  const soft = paged((put) => {
    put(10, 20 * 4096 + 0x67);
    put(12, 0);
  });
  const { memory } = soft.cpu;
  put64(soft, 0x1122334455667788n);
  assert.equal(memory.store(9 * 4096 + 4093, 8, 0), Outcome.OK);
  assert.deepEqual([...soft.bytes.subarray(9 * 4096 + 4093, 10 * 4096)], [0x88, 0x77, 0x66]);
  assert.deepEqual([...soft.bytes.subarray(20 * 4096, 20 * 4096 + 5)], [0x55, 0x44, 0x33, 0x22, 0x11]);
  put64(soft, 0n);
  assert.equal(memory.load(9 * 4096 + 4093, 8, 0), Outcome.OK);
  assert.equal(got64(soft), 0x1122334455667788n);

  const before = soft.bytes.slice(0, MEMORY);
  assert.equal(memory.store(11 * 4096 + 4090, 8, 0), Outcome.FAULT);
  assert.deepEqual(soft.bytes.slice(0, MEMORY), before);
  assert.equal(soft.cpu.state.get32(State.faultVector), Vector.PF);
  assert.equal(soft.cpu.state.get32(State.faultError), 2);
  assert.equal(soft.cpu.state.get64(State.faultAddress), 12n * 4096n);
});

test("addresses of 32 bits wrap", () => {
  const soft = flat();
  soft.map.setSlot({ slot: 1, guestAddress: 0xfffff000, sizeBytes: 4096, memoryOffset: 0x3000 });
  put64(soft, 0x1122334455667788n);
  assert.equal(soft.cpu.memory.store(0xfffffffc, 8, 0), Outcome.OK);
  assert.equal(soft.view.getUint32(0x3ffc, true), 0x55667788);
  assert.equal(soft.view.getUint32(0, true), 0x11223344);
});

test("a load that means to write faults as a write", () => {
  const soft = paged((put) => put(10, 10 * 4096 + 5));
  assert.equal(soft.cpu.memory.load(10 * 4096, 4, 0), Outcome.OK);
  assert.equal(soft.cpu.memory.load(10 * 4096, 4, WRITE), Outcome.FAULT);
  assert.equal(soft.cpu.state.get32(State.faultError), 3);
});

test("a hole asks the monitor, and the instruction's second execution gets the answers", () => {
  const soft = flat();
  const { memory } = soft.cpu;
  const { mmio } = memory;
  // or dword [hole], x: a read, then a write.
  assert.equal(memory.load(0x30000, 4, WRITE), Outcome.EXIT);
  const { data, ...read } = mmio.pending!;
  assert.deepEqual(read, { bus: Bus.MEMORY, address: 0x30000, size: 4, isWrite: false, count: 1 });
  data.set([1, 2, 3, 4]);
  mmio.answered();
  mmio.restart();
  assert.equal(memory.load(0x30000, 4, WRITE), Outcome.OK);
  assert.equal(soft.cpu.state.get32(State.transfer), 0x04030201);
  assert.equal(memory.store(0x30000, 4, 0), Outcome.EXIT);
  assert.equal(mmio.pending!.isWrite, true);
  assert.deepEqual([...mmio.pending!.data], [1, 2, 3, 4]);
  mmio.answered();
  mmio.restart();
  assert.equal(memory.load(0x30000, 4, WRITE), Outcome.OK);
  assert.equal(memory.store(0x30000, 4, 0), Outcome.OK);
  assert.equal(mmio.pending, undefined);
  mmio.clear();
  assert.equal(memory.load(0x30000, 4, 0), Outcome.EXIT);
});

test("an access that is partly memory asks for the rest only, in pieces of 8 bytes", () => {
  const soft = flat();
  const { memory } = soft.cpu;
  const requests: [number, number][] = [];
  soft.bytes.fill(0x77, MEMORY - 4, MEMORY);
  for (let round = 0; round < 10 && memory.load(MEMORY - 4, 32, 0) === Outcome.EXIT; round++) {
    const { pending } = memory.mmio;
    requests.push([pending!.address, pending!.size]);
    pending!.data.fill(requests.length);
    memory.mmio.answered();
    memory.mmio.restart();
  }
  assert.deepEqual(requests, [
    [MEMORY, 8],
    [MEMORY + 8, 8],
    [MEMORY + 16, 8],
    [MEMORY + 24, 4],
  ]);
  const expected = [...Array(4).fill(0x77), ...Array(8).fill(1), ...Array(8).fill(2), ...Array(8).fill(3), 4, 4, 4, 4];
  assert.deepEqual([...memory.transfer], expected);
});

test("read-only memory is read as memory, and written through the monitor", () => {
  const soft = flat();
  soft.map.setSlot({ slot: 1, guestAddress: 0x40000, sizeBytes: 4096, memoryOffset: 0x3000, readOnly: true });
  soft.bytes[0x3010] = 9;
  const { memory } = soft.cpu;
  assert.equal(memory.load(0x40010, 1, WRITE), Outcome.OK);
  assert.equal(memory.transfer[0], 9);
  assert.equal(memory.store(0x40010, 1, 0), Outcome.EXIT);
  assert.equal(memory.mmio.pending!.address, 0x40010);
});

test("write entries are filled only where a store needs no one's attention", () => {
  const soft = flat();
  const { memory } = soft.cpu;
  const { tlb } = memory;
  const writable = (va: number) => tlb.lookup(tlb.selected, TlbTable.WRITE, va) >= 0;
  assert.equal(memory.load(0x6000, 4, 0), Outcome.OK);
  assert.ok(writable(0x6000), "a load of a dirty, plain page fills both");

  soft.map.setSlot({ slot: 1, guestAddress: 0x80000, sizeBytes: 8192, memoryOffset: 0x8000, logDirtyPages: true });
  soft.cpu.flushAll();
  assert.equal(memory.load(0x80000, 4, 0), Outcome.OK);
  assert.ok(!writable(0x80000), "the log does not know of the page yet");
  assert.equal(memory.store(0x80000, 4, 0), Outcome.OK);
  assert.ok(writable(0x80000));
  const bitmap = new Uint8Array(8);
  soft.map.readDirty(1, bitmap, true);
  assert.equal(bitmap[0], 1);
  tlb.flushWrites();
  assert.ok(!writable(0x80000));
  assert.equal(memory.store(0x81000, 1, 0), Outcome.OK);
  soft.map.readDirty(1, bitmap, true);
  assert.equal(bitmap[0], 2);

  soft.map.code.set(6);
  tlb.flushWritesTo(0x6000);
  assert.equal(memory.store(0x6000, 4, 0), Outcome.OK);
  assert.ok(!writable(0x6000), "the page holds code");
  assert.ok(tlb.lookup(tlb.selected, TlbTable.READ, 0x6000) >= 0);
});

test("flushes take what they shall and keep what they may", () => {
  const soft = flat();
  const { tlb } = soft.cpu.memory;
  const has = (va: number) => tlb.lookup(Tlb.SUPERVISOR, TlbTable.READ, va) === 0x9000 + (va & 0xfff);
  const fill = (va: number, shift: number, global: boolean) =>
    tlb.fill(Tlb.SUPERVISOR, TlbTable.READ, va, 0x9000, shift, global);
  const kernel = -(2 ** 31) + 0x5000;
  fill(0x1000, 12, false);
  fill(0x2000, 12, true);
  fill(kernel, 21, true);
  assert.ok(has(0x1abc) && has(0x2abc) && has(kernel + 5));
  assert.ok(!has(0x1000 + 2 ** 22) && !has(0x1000 + 2 ** 32) && !has(0x1000 - 2 ** 47));
  tlb.flushNonGlobal();
  assert.ok(!has(0x1000) && has(0x2000) && has(kernel));
  tlb.flushPage(kernel + 0x100000);
  assert.ok(!has(kernel), "any address of a large page flushes all of it");
  tlb.flushPage(0x2000);
  assert.ok(!has(0x2000));
  fill(0x2000, 12, true);
  tlb.flushAll();
  assert.ok(!has(0x2000));
  // The list of entries in use holds each once, however often it is filled and flushed.
  for (let round = 0; round < 50_000; round++) {
    fill((round % 7) * 0x1000, 12, false);
    if (round % 3 === 0) tlb.flushPage((round % 5) * 0x1000);
  }
  tlb.flushAll();
  for (let page = 0; page < 7; page++) assert.ok(!has(page * 0x1000));
});

test("addresses that are not canonical are #GP, on the stack #SS", () => {
  const soft = softProcessor(MEMORY);
  soft.cpu.state.set64(State.efer, 0x500n);
  soft.cpu.state.set32(State.mode, 2);
  for (const [va, kind, vector] of [
    [2 ** 47, 0, Vector.GP],
    [-(2 ** 47) - 4096, AccessKind.STACK, Vector.SS],
    [Number(0x7fffffffffffffffn), WRITE, Vector.GP],
  ] as const) {
    soft.cpu.state.set32(State.faultVector, 0xffffffff);
    assert.equal(soft.cpu.memory.load(va, 4, kind), Outcome.FAULT);
    assert.equal(soft.cpu.state.get32(State.faultVector), vector);
  }
});

test("a locked access that was abandoned gives the bus back", () => {
  const soft = flat();
  assert.equal(soft.cpu.memory.load(0x30003, 4, WRITE | LOCK), Outcome.EXIT);
  soft.cpu.memory.releaseLock();
  assert.equal(soft.cpu.memory.load(0x1003, 4, WRITE | LOCK), Outcome.OK);
  assert.equal(soft.cpu.memory.store(0x1003, 4, LOCK), Outcome.OK);
  // Would hang if it were still taken.
  soft.map.lockBus();
  soft.map.unlockBus();
});

test("whatever is accessed, nothing outside of the guest's memory is touched", () => {
  const random = new Random(2);
  const soft = flat();
  const behind = soft.bytes.slice(MEMORY + State.fcw, MEMORY + State.ram);
  for (let round = 0; round < 20_000; round++) {
    const va = random.chance(0.5) ? random.below(MEMORY * 2) : random.next();
    const size = random.pick([1, 2, 4, 8, 16, 32]);
    if (random.chance(0.5)) soft.cpu.memory.load(va, size, random.below(2));
    else soft.cpu.memory.store(va, size, 0);
    soft.cpu.memory.mmio.clear();
  }
  assert.deepEqual(soft.bytes.slice(MEMORY + State.fcw, MEMORY + State.ram), behind);
});
