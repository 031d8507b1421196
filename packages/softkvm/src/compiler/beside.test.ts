/** Regions that another thread compiles: the guest goes on meanwhile, and gets only what is still its code. */

import assert from "node:assert/strict";
import { test } from "node:test";
import { type FlatGuest, flatGuest } from "../../testing/flat-guest.ts";
import { HeldCompileThread } from "../../testing/held-compile-thread.ts";
import { Budget } from "../cpu/budget.ts";
import { CODE_LIMITS } from "../interpreter/limits.ts";
import { BUSY_BUDGETS, MOST_ORDERS } from "./beside.ts";
import type { CompiledRegion } from "./compile-thread.ts";
import { FIRST_RUNS } from "./warmth.ts";

const LOOP = 0x1000;
const PATCH = 0x2000;
const PATCH_BACK = 0x2800;
const OTHER = 0x3000;
/** From here on there is room for many loops. */
const MANY = 0x4000;
/** Some budgets' worth. */
const TURNS = 300_000;

/** xor %eax, %eax; 1: add $value, %eax; dec %ecx; jnz 1b; hlt */
const loop = (value: number) => [0x31, 0xc0, 0x83, 0xc0, value, 0x49, 0x75, 0xfa, 0xf4];
/** movb $value, LOOP + 4; hlt */
const patch = (value: number) => [0xc6, 0x05, 0x04, 0x10, 0, 0, value, 0xf4];

function guest(thread: HeldCompileThread): Omit<FlatGuest, "run"> & { run(rip: number, turns?: number): bigint } {
  const machine = flatGuest({ compileThread: () => thread });
  machine.write(LOOP, loop(3));
  machine.write(OTHER, loop(7));
  machine.write(PATCH, patch(5));
  machine.write(PATCH_BACK, patch(3));
  const { run } = machine;
  return Object.assign(machine, { run: (rip: number, turns = TURNS) => run(rip, turns) });
}

const sum = (value: number) => BigInt(TURNS * value);

test("the guest goes on in the interpreter until what was ordered has come, and once it has, in that", () => {
  const thread = new HeldCompileThread();
  using machine = guest(thread);
  assert.equal(machine.run(LOOP), sum(3));
  assert.equal(thread.orders, 1);
  assert.equal(machine.run(LOOP), sum(3));
  assert.equal(thread.orders, 1);
  assert.equal(machine.regionBytes, 0);
  thread.compile();
  assert.equal(machine.run(LOOP), sum(3));
  assert.notEqual(machine.regionBytes, 0);
});

test("of code that was written over meanwhile nothing is taken, and the new code is compiled in its turn", () => {
  const thread = new HeldCompileThread();
  using machine = guest(thread);
  machine.run(LOOP);
  machine.run(PATCH);
  thread.compile();
  assert.equal(machine.run(LOOP), sum(5));
  assert.equal(machine.regionBytes, 0);
  while (!thread.isHolding) assert.equal(machine.run(LOOP), sum(5));
  thread.compile();
  assert.equal(machine.run(LOOP), sum(5));
  assert.notEqual(machine.regionBytes, 0);
});

test("code that comes back to what it was is new code", () => {
  const thread = new HeldCompileThread();
  using machine = guest(thread);
  machine.run(LOOP);
  machine.run(PATCH);
  assert.equal(machine.run(LOOP), sum(5));
  machine.run(PATCH_BACK);
  thread.compile();
  assert.equal(machine.run(LOOP), sum(3));
  assert.equal(machine.regionBytes, 0);
});

test("what was forgotten with all other code comes to nothing, and its slot is not taken from whoever has it by then", () => {
  const thread = new HeldCompileThread();
  using machine = guest(thread);
  machine.run(LOOP);
  const usual = CODE_LIMITS.handlerBytes;
  CODE_LIMITS.handlerBytes = 0;
  try {
    // Another set of instructions: nothing that was decoded stays, and handlers are too many.
    machine.vcpu.setCpuid(machine.vcpu.getCpuid());
  } finally {
    CODE_LIMITS.handlerBytes = usual;
  }
  thread.compile();
  assert.equal(machine.run(OTHER), sum(7));
  assert.equal(machine.run(LOOP), sum(3));
  while (machine.regionBytes === 0) {
    if (thread.isHolding) thread.compile();
    assert.equal(machine.run(LOOP), sum(3));
  }
  assert.equal(machine.run(OTHER), sum(7));
});

test("an order whose bytes are no instructions comes back as nothing, and the code is ordered again", () => {
  const thread = new HeldCompileThread();
  using machine = guest(thread);
  machine.run(LOOP);
  // As if another vCPU had written while they were copied.
  thread.compile(({ code }) => code.fill(0x0f));
  assert.equal(machine.run(LOOP), sum(3));
  assert.equal(machine.regionBytes, 0);
  while (!thread.isHolding) assert.equal(machine.run(LOOP), sum(3));
});

test("some are under way at a time; a thread that is gone leaves the compiling to the vCPU's", () => {
  const thread = new HeldCompileThread();
  using machine = guest(thread);
  const loops = Array.from({ length: 2 * MOST_ORDERS }, (_, index) => MANY + 0x40 * index);
  for (const at of loops) {
    machine.write(at, loop(1));
    assert.equal(machine.run(at), sum(1));
  }
  assert.equal(thread.orders, MOST_ORDERS);
  thread.compile();
  assert.equal(machine.run(loops[0]!), sum(1));
  assert.equal(thread.orders, MOST_ORDERS + 1);
  thread.isReady = false;
  const before = machine.regionBytes;
  assert.notEqual(before, 0);
  while (machine.regionBytes === before) assert.equal(machine.run(loops.at(-1)!), sum(1));
  for (const at of loops) assert.equal(machine.run(at), sum(1));
  assert.equal(thread.orders, MOST_ORDERS + 1);
});

test("what leads to blocks that are under way is decided on when these have come, and takes them in", () => {
  const thread = new HeldCompileThread();
  using machine = guest(thread);
  // The same loop with a jump to the other one's HLT behind it. All is decoded before it is compiled.
  machine.write(LOOP + 0x40, [...loop(7).slice(0, -1), 0xeb, LOOP + 8 - (LOOP + 0x40 + 10)]);
  for (const at of [LOOP, LOOP + 0x40]) machine.run(at, 2);
  machine.run(LOOP);
  assert.equal(machine.run(LOOP + 0x40), sum(7));
  assert.equal(thread.orders, 1);
  const blocks = thread.compile();
  assert.equal(machine.run(LOOP + 0x40), sum(7));
  assert.equal(thread.orders, 2);
  assert.ok(thread.compile() > blocks);
  assert.equal(machine.run(LOOP + 0x40), sum(7));
  assert.equal(machine.run(LOOP), sum(3));
});

test("what has come with a block in front of it is not compiled once more, although it was wished meanwhile", () => {
  const thread = new HeldCompileThread();
  using machine = guest(thread);
  // The loop in blocks all of which become warm: xor %eax, %eax; 1: add $3, %eax; jmp 2f; 2: jmp 3f; 3: jmp 4f; 4: dec %ecx; jnz 1b; hlt
  machine.write(LOOP, [0x31, 0xc0, 0x83, 0xc0, 3, ...[0xeb, 0, 0xeb, 0, 0xeb, 0], 0x49, 0x75, 0xf4, 0xf4]);
  for (let times = 0; times < 2; times++) assert.equal(machine.run(LOOP), sum(3));
  assert.equal(thread.orders, 1);
  thread.compile();
  for (let times = 0; times < 4; times++) assert.equal(machine.run(LOOP), sum(3));
  assert.notEqual(machine.regionBytes, 0);
  assert.equal(thread.orders, 1);
});

test("a thread that has nothing to do gets what was run some hundred times, one that has much does not", () => {
  const thread = new HeldCompileThread();
  using machine = guest(thread);
  const loops = Array.from({ length: 2 * MOST_ORDERS }, (_, index) => MANY + 0x40 * index);
  for (const at of loops) {
    machine.write(at, loop(1));
    assert.equal(machine.run(at, 2 * FIRST_RUNS), BigInt(2 * FIRST_RUNS));
  }
  assert.equal(thread.orders, MOST_ORDERS);
  thread.compile();
  assert.equal(machine.run(loops[0]!), sum(1));
  assert.equal(thread.orders, MOST_ORDERS);
});

test("the engine's optimizing compiler is asked for here and now only, not where the bytes are used again", () => {
  const thread = new HeldCompileThread();
  using machine = guest(thread);
  machine.run(LOOP);
  thread.compile();
  const { module, bytes } = thread.take() as CompiledRegion;
  // The types of Node alone do not know it.
  const { customSections } = WebAssembly.Module as unknown as { customSections(of: object, name: string): object[] };
  assert.equal(customSections(module, "compilationHints").length, 1);
  assert.equal(customSections(new WebAssembly.Module(bytes), "compilationHints").length, 0);
});

test("a thread is wanted once the vCPU's has compiled much", () => {
  const thread = new HeldCompileThread();
  thread.isReady = false;
  using machine = guest(thread);
  machine.run(LOOP);
  assert.equal(thread.isWanted, false);
  for (let at = MANY; !thread.isWanted; at += 0x40) {
    assert.ok(at < 0x100000, "a thousand loops are enough");
    machine.write(at, loop(1));
    assert.equal(machine.run(at), sum(1));
  }
});

test("a thread is wanted by a guest that is busy for long, however little was compiled", () => {
  const thread = new HeldCompileThread();
  thread.isReady = false;
  using machine = guest(thread);
  machine.run(LOOP, (BUSY_BUDGETS * Budget.full) / 2);
  assert.equal(thread.isWanted, false);
  machine.run(LOOP, (BUSY_BUDGETS * Budget.full) / 2);
  assert.equal(thread.isWanted, true);
});

test("bytes that are no instructions by now are not compiled in place, and what was decoded before goes on", () => {
  const thread = new HeldCompileThread();
  thread.isReady = false;
  using machine = guest(thread);
  assert.equal(machine.run(LOOP, 2), 6n);
  // A longer jump, as by another vCPU, of which this one has not been told yet.
  machine.write(LOOP + 6, [0x0f, 0x85]);
  assert.equal(machine.run(LOOP), sum(3));
  assert.equal(machine.regionBytes, 0);
});

test("while the thread loads its code, the vCPU's compiles", () => {
  const thread = new HeldCompileThread();
  thread.isReady = false;
  using machine = guest(thread);
  assert.equal(machine.run(LOOP), sum(3));
  assert.notEqual(machine.regionBytes, 0);
  assert.equal(thread.orders, 0);
});
