/** The exit loop allocates nothing: 200,000 port accesses leave the heap as large as it was. */

import assert from "node:assert/strict";
import { test } from "node:test";
import { GCProfiler, getHeapStatistics } from "node:v8";
import { guest, noKvm } from "../../testing/guest.ts";
import { exitError } from "../errors.ts";
import { ExitReason } from "../exit-reason.ts";
import type { Vcpu } from "../vcpu.ts";

const EXITS = 200_000;
/** The smallest object takes 12 bytes; what compiling and test machinery leave behind is a few thousand in all. */
const BYTES_AN_EXIT = 0.5;

const PORT = 0x3f8;
// mov $0x3f8,%dx; 1: in %dx,%al; inc %al; out %al,%dx; jmp 1b
const ECHO = [0x66, 0xba, 0xf8, 0x03, 0xec, 0xfe, 0xc0, 0xee, 0xeb, 0xfa];

/** A serial port as a monitor would have it: answers reads, takes writes. Returns the sum of what was written. */
function serve(vcpu: Vcpu, exits: number): number {
  const { page } = vcpu;
  let sum = 0;
  for (let exit = 0; exit < exits; exit++) {
    let reason = vcpu.run();
    // A signal of the process's own.
    while (reason === ExitReason.INTR) reason = vcpu.run();
    if (reason !== ExitReason.IO || page.io.port !== PORT) throw exitError(page);
    if (page.io.isOut) sum += page.io.value();
    else page.io.answer(exit & 0x7f);
  }
  return sum;
}

/** Bytes that a call leaves on the heap; undefined when a collection came between and took some of them. */
function heapGrowth(call: () => void): number | undefined {
  const profiler = new GCProfiler();
  profiler.start();
  const before = getHeapStatistics().used_heap_size;
  call();
  const growth = getHeapStatistics().used_heap_size - before;
  return profiler.stop().statistics.length === 0 ? growth : undefined;
}

test("an exit allocates nothing", { skip: noKvm }, (t) => {
  using small = guest(ECHO);
  // Until the loop is compiled and inlined. The guest adds 1 to each answer: 0, 2 ... 126, again and again.
  assert.equal(serve(small.vcpu, 64 * 400), 200 * (64 * 63 + 64));
  for (let attempt = 0; attempt < 5; attempt++) {
    const growth = heapGrowth(() => serve(small.vcpu, EXITS));
    if (growth === undefined) continue;
    t.diagnostic(`${growth} bytes in ${EXITS} exits`);
    assert.ok(growth / EXITS < BYTES_AN_EXIT, `${growth} bytes in ${EXITS} exits`);
    return;
  }
  t.skip("the collector never let the loop run through");
});
