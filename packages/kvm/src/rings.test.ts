/** The two rings that a guest fills and a monitor empties, over plain memory with a pretended guest. */

import assert from "node:assert/strict";
import { test } from "node:test";
import { COALESCED_RING_ENTRIES, CoalescedRing, type CoalescedWriteEntry } from "./coalesced-ring.ts";
import { DirtyRing } from "./dirty-ring.ts";
import { CoalescedWrite, DirtyGfn, DirtyGfnFlag } from "./layout/vm.ts";

const PAGE = 4096;
const FIRST = 0;
const LAST = 1;

/** A coalesced ring at the second page of three, and the guest's hand on it. */
function coalesced() {
  const buffer = new ArrayBuffer(3 * PAGE);
  const indexes = new Uint32Array(buffer, PAGE, 2);
  const view = new DataView(buffer, PAGE, PAGE);
  const write = (physAddr: number, data: number[], pio = 0) => {
    const bytes = Uint8Array.from([...data, ...Array<number>(8 - data.length).fill(0xcc)]);
    CoalescedWrite.write(view, 8 + indexes[LAST]! * CoalescedWrite.size, {
      physAddr,
      len: data.length,
      pio,
      data: bytes,
    });
    indexes[LAST] = (indexes[LAST]! + 1) % COALESCED_RING_ENTRIES;
  };
  return { buffer, indexes, write, ring: new CoalescedRing(buffer, PAGE) };
}

test("coalesced writes come in order, once, and without an older write's bytes", () => {
  const { ring, write } = coalesced();
  write(0xa0000, [1]);
  write(2 ** 40 + 2, [2, 3]);
  write(0x3f8, [4, 5, 6, 0x87], 1);
  write(0xb0000, [1, 2, 3, 4, 5, 6, 7, 0x88]);
  const seen: CoalescedWriteEntry[] = [];
  assert.equal(
    ring.drain((entry) => seen.push({ ...entry })),
    4,
  );
  assert.deepEqual(seen, [
    { bus: "mmio", address: 0xa0000, length: 1, low: 1, high: 0 },
    { bus: "mmio", address: 2 ** 40 + 2, length: 2, low: 0x302, high: 0 },
    { bus: "pio", address: 0x3f8, length: 4, low: 0x87060504, high: 0 },
    { bus: "mmio", address: 0xb0000, length: 8, low: 0x04030201, high: 0x88070605 },
  ]);
  assert.equal(
    ring.drain(() => assert.fail("nothing waits")),
    0,
  );
});

test("a coalesced ring goes round", () => {
  const { ring, write } = coalesced();
  let next = 0;
  for (let round = 0; round < 10; round++) {
    for (let index = 0; index < 100; index++) write(round * 100 + index, [0]);
    assert.equal(
      ring.drain((entry) => assert.equal(entry.address, next++)),
      100,
    );
  }
});

test("a guest that writes while the ring is drained holds nobody there", () => {
  const { ring, write } = coalesced();
  write(0, [0]);
  assert.equal(
    ring.drain(() => write(0, [0])),
    COALESCED_RING_ENTRIES,
  );
});

test("a handler that throws has not taken its write", () => {
  const { ring, write } = coalesced();
  write(5, [1]);
  assert.throws(() => ring.drain(() => assert.fail("no")));
  assert.equal(
    ring.drain((entry) => assert.equal(entry.address, 5)),
    1,
  );
});

test("indexes out of range are taken round, and no byte beside the ring is touched", () => {
  for (const [first, last] of [
    [0xffff_ffff, 3],
    [3, 0xffff_ffff],
    [COALESCED_RING_ENTRIES, 0],
    [2 ** 31, 2 ** 31 + 7],
  ]) {
    const { ring, indexes, buffer } = coalesced();
    indexes[FIRST] = first!;
    indexes[LAST] = last!;
    const count = ring.drain(() => {});
    assert.ok(count < COALESCED_RING_ENTRIES);
    assert.equal(
      ring.drain(() => {}),
      0,
    );
    assert.ok(new Uint8Array(buffer, 0, PAGE).every((byte) => byte === 0));
    assert.ok(new Uint8Array(buffer, 2 * PAGE).every((byte) => byte === 0));
  }
});

const ENTRIES = 8;

/** A dirty ring, and the kernel's hand on it. */
function dirty() {
  const buffer = new ArrayBuffer(ENTRIES * DirtyGfn.size);
  const view = new DataView(buffer);
  let next = 0;
  const push = (slot: number, offset: number, flags: number = DirtyGfnFlag.DIRTY) =>
    DirtyGfn.write(view, (next++ % ENTRIES) * DirtyGfn.size, { flags, slot, offset });
  const flagsOf = (index: number) => DirtyGfn.read(view, index * DirtyGfn.size).flags;
  return { view, push, flagsOf, ring: new DirtyRing(buffer) };
}

test("dirty pages come in order and are marked harvested, until the kernel resets them", () => {
  const { ring, push, flagsOf } = dirty();
  const seen: [number, number][] = [];
  const harvest = () => ring.harvest((slot, page) => seen.push([slot, page]));
  push(0, 7);
  push(0x10002, 2 ** 40);
  assert.equal(harvest(), 2);
  assert.deepEqual(seen, [
    [0, 7],
    [0x10002, 2 ** 40],
  ]);
  assert.equal(flagsOf(0), DirtyGfnFlag.DIRTY | DirtyGfnFlag.RESET);
  assert.equal(flagsOf(2), 0);
  assert.equal(harvest(), 0);

  // Round the ring: the first two are the kernel's again.
  for (let page = 0; page < ENTRIES; page++) push(0, page);
  assert.equal(harvest(), ENTRIES);
  assert.deepEqual(
    seen.slice(2).map(([, page]) => page),
    [0, 1, 2, 3, 4, 5, 6, 7],
  );
});

test("a dirty ring that fills while it is harvested holds nobody there", () => {
  const { ring, view } = dirty();
  const refill = () => {
    for (let index = 0; index < ENTRIES; index++) {
      DirtyGfn.write(view, index * DirtyGfn.size, { flags: DirtyGfnFlag.DIRTY, slot: 0, offset: 0 });
    }
  };
  refill();
  // Every handler makes all of them dirty anew, as a kernel would that another thread resets.
  assert.equal(ring.harvest(refill), ENTRIES);
});

test("flags that the kernel never sets end a harvest", () => {
  for (const flags of [DirtyGfnFlag.RESET, 3, 4, 0xffff_ffff]) {
    const { ring, push } = dirty();
    push(0, 1, flags);
    assert.equal(
      ring.harvest(() => assert.fail("not dirty")),
      0,
    );
  }
});
