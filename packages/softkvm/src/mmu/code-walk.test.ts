/**
 * Walks for code of ring 3 beside `Access.fetch`, through random page tables: where they find a place it is the same, and
 * where something faults they find none. LODGE_SEED repeats a run.
 */

import assert from "node:assert/strict";
import { test } from "node:test";
import { MeaningProcessor } from "../../testing/meaning-processor.ts";
import { MEMORY, pageTableCase } from "../../testing/page-tables.ts";
import { Random } from "../../testing/random.ts";
import { softProcessor } from "../../testing/soft-processor.ts";
import { NO_FAULT, State } from "../cpu/layout.ts";
import { setRegs } from "../system/regs.ts";
import { setSregs } from "../system/sregs.ts";
import { AccessKind } from "./access.ts";

const { LODGE_SEED, LODGE_LONG } = process.env;
const seed = LODGE_SEED === undefined ? Date.now() % 1_000_000_000 : Number(LODGE_SEED);
const CASES = LODGE_LONG ? 50_000 : 3_000;
const PHYSICAL_BITS = 40;

test(`${CASES} fetches find code where the general way does (seed ${seed})`, (t) => {
  const slow = softProcessor(MEMORY);
  const meanings = new MeaningProcessor(MEMORY);
  const quick = meanings.soft;
  let found = 0;
  for (let index = 0; index < CASES; index++) {
    const { image, state, address } = pageTableCase(new Random(seed * 1_000_003 + index), PHYSICAL_BITS);
    for (const { cpu, bytes } of [slow, quick]) {
      bytes.set(image);
      cpu.flushAll();
      setSregs(cpu, state.sregs);
      setRegs(cpu, state.regs);
      cpu.state.set32(State.cpl, 3);
      cpu.state.set32(State.faultVector, NO_FAULT);
    }
    // The piece of memory is known from an access of TypeScript's that comes through.
    quick.cpu.memory.load(0x1000, 8, AccessKind.IMPLICIT);
    const va = Number(BigInt.asIntN(64, address));
    // The first fetch of all sets the accessed bits, which the quick walk wants.
    const expected = slow.cpu.memory.fetch(va);
    quick.bytes.set(slow.bytes.subarray(0, MEMORY));
    const place = meanings.quick.codeWalk(address);
    if (place === -1) continue;
    found++;
    assert.equal(place, expected, `code at 0x${address.toString(16)}, LODGE_SEED=${seed}, case ${index}`);
  }
  t.diagnostic(`${found} of ${CASES} were found`);
  assert.ok(found > CASES / 20, `only ${found} were found`);
});
