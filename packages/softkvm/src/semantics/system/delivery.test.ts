/**
 * Quick delivery beside the general one, in random states of long mode: what it does comes out the same to the last bit,
 * and what it refuses it has not begun. LODGE_SEED repeats a run.
 */

import assert from "node:assert/strict";
import { test } from "node:test";
import { MeaningProcessor } from "../../../testing/meaning-processor.ts";
import { Random } from "../../../testing/random.ts";
import { MEMORY, type Scenario, scenario } from "../../../testing/scenario.ts";
import { type SoftProcessor, softProcessor } from "../../../testing/soft-processor.ts";
import { State } from "../../cpu/layout.ts";
import { AccessKind } from "../../mmu/access.ts";
import { deliverPending } from "../../system/exceptions.ts";
import { getRegs, setRegs } from "../../system/regs.ts";
import { getSregs, setSregs } from "../../system/sregs.ts";

const { LODGE_SEED } = process.env;
const seed = LODGE_SEED === undefined ? Date.now() % 1_000_000_000 : Number(LODGE_SEED);
const CASES = 400;
const ODD_VECTOR = 0x30;
const WITH_ERROR = new Set([8, 10, 11, 12, 13, 17]);

function load({ cpu, bytes }: SoftProcessor, { image, state }: Scenario, random: Random): void {
  bytes.set(image);
  cpu.events.clear();
  setSregs(cpu, state.sregs);
  setRegs(cpu, state.regs);
  cpu.state.set32(State.interruptShadow, random.below(2));
  // All of memory that matters is in the lookaside buffers, but now and then.
  if (random.chance(0.1)) return;
  for (let page = 0; page < MEMORY; page += 4096) {
    cpu.memory.probe(page, 1, AccessKind.WRITE | AccessKind.IMPLICIT);
    if (cpu.cpl === 0) cpu.memory.probe(page, 1, AccessKind.WRITE);
  }
  cpu.state.set32(State.faultVector, -1);
}

function snapshot({ cpu, bytes }: SoftProcessor) {
  const { state } = cpu;
  return {
    ...{ regs: getRegs(cpu), sregs: getSregs(cpu), shadow: state.get32(State.interruptShadow) },
    ...{ mode: state.get32(State.mode), cpl: cpu.cpl, bank: cpu.memory.tlb.selected },
    ...{ attributes: [0, 1, 2, 3, 4, 5].map((segment) => state.get32(State.segments + segment * 32 + 16)) },
    memory: Buffer.from(bytes.subarray(0, MEMORY)),
  };
}

test(`exceptions are delivered the same quickly and in general (seed ${seed})`, (t) => {
  const slow = softProcessor(MEMORY);
  const meanings = new MeaningProcessor(MEMORY);
  const quick = meanings.soft;
  let done = 0;
  for (let index = 0; index < CASES; index++) {
    const caseSeed = seed * 1_000_003 + index;
    const random = new Random(caseSeed);
    const mode = random.chance(0.9) ? "long" : "compat";
    const made = scenario(random, { mode, tssType: 11, oddStacks: random.chance(0.3) });
    if (random.chance(0.5)) made.state.sregs.cr4 |= 1n << 21n;
    // Those above are gates of all kinds, which a program may not use.
    const vector = random.pick([0, 1, 6, 8, 13, 17, random.below(ODD_VECTOR), ODD_VECTOR + random.below(0xd0)]);
    const error = WITH_ERROR.has(vector) ? random.below(0x10000) : undefined;
    const resume = !(vector === 8 || vector === 1 || (vector >= 2 && vector <= 4) || vector === 18);
    load(slow, made, new Random(caseSeed));
    load(quick, made, new Random(caseSeed));
    const before = snapshot(quick);
    const returnRip = quick.cpu.state.base + State.instructionRip;
    if (meanings.quick.deliver(vector, error ?? -1, returnRip, resume ? 1 : 0) === 0) {
      assert.deepEqual(snapshot(quick), before, `refused, yet changed: LODGE_SEED=${seed}, case ${index}`);
      continue;
    }
    done++;
    slow.cpu.events.exception = { vector, error, payload: undefined, soft: false };
    assert.ok(deliverPending(slow.cpu));
    assert.deepEqual(snapshot(quick), snapshot(slow), `vector ${vector}, ${mode}, LODGE_SEED=${seed}, case ${index}`);
  }
  t.diagnostic(`${done} of ${CASES} were quick`);
  assert.ok(done > CASES / 10, `only ${done} were quick`);
});
