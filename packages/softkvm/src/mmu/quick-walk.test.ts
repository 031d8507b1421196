/**
 * Quick walks beside `Access`, through random page tables: what they do comes out the same, and where they leave an access
 * to `Access` that is all the same, too. LODGE_SEED repeats a run.
 */

import assert from "node:assert/strict";
import { test } from "node:test";
import { MeaningProcessor } from "../../testing/meaning-processor.ts";
import { MEMORY, type PageTableCase, pageTableCase } from "../../testing/page-tables.ts";
import { Random } from "../../testing/random.ts";
import { type SoftProcessor, softProcessor } from "../../testing/soft-processor.ts";
import { NO_FAULT, State, Tlb, TlbList, Translated } from "../cpu/layout.ts";
import { setRegs } from "../system/regs.ts";
import { setSregs } from "../system/sregs.ts";
import { AccessKind } from "./access.ts";
import { TlbTable } from "./tlb.ts";

const { LODGE_SEED, LODGE_LONG } = process.env;
const seed = LODGE_SEED === undefined ? Date.now() % 1_000_000_000 : Number(LODGE_SEED);
const CASES = LODGE_LONG ? 50_000 : 1_500;
const PHYSICAL_BITS = 40;

function load({ cpu, bytes, map }: SoftProcessor, { image, state }: PageTableCase, codePage: number): void {
  bytes.set(image);
  cpu.flushAll();
  setSregs(cpu, state.sregs);
  setRegs(cpu, state.regs);
  for (let page = 0; page < MEMORY / 4096; page++) map.code.clear(page);
  map.code.set(codePage);
}

/** All that an access leaves: memory, the fault, what is in the lookaside buffers and known of their entries. */
function snapshot({ cpu: { state, memory }, bytes }: SoftProcessor, va: number) {
  const entries = [];
  for (let bank = 0; bank < Tlb.banks; bank++) {
    for (const table of [TlbTable.READ, TlbTable.WRITE]) entries.push(memory.tlb.lookup(bank, table, va));
  }
  const filled = Array.from({ length: state.get32(State.tlbFilled) }, (_, index) => {
    const slot = state.view.getUint16(state.base + TlbList.filled + index * 2, true);
    return [slot, state.view.getUint8(state.base + TlbList.kinds + slot)];
  });
  const at = state.base + Translated.large;
  return {
    ...{ entries, filled, settled: state.get32(State.tlbSettled) },
    ...{ large: bytes.slice(at, at + Translated.entries).findIndex((byte) => byte !== 0) },
    ...{ vector: state.get32(State.faultVector), error: state.get32(State.faultError) },
    ...{ address: state.get64(State.faultAddress), transfer: state.get64(State.transfer) },
    memory: Buffer.from(bytes.subarray(0, MEMORY)),
  };
}

test(`${CASES} walks are the same quickly and in general (seed ${seed})`, (t) => {
  const slow = softProcessor(MEMORY);
  const meanings = new MeaningProcessor(MEMORY);
  const quick = meanings.soft;
  quick.cpu.state.set32(State.quick, 1);
  let done = 0;
  let general = 0;
  const { memory } = quick.cpu;
  for (const name of ["load", "store"] as const) {
    const inner = memory[name].bind(memory);
    memory[name] = (...access) => {
      general++;
      return inner(...access);
    };
  }
  for (let index = 0; index < CASES; index++) {
    const random = new Random(seed * 1_000_003 + index);
    const made = pageTableCase(random, PHYSICAL_BITS);
    const codePage = random.pick([0xe, 0xf, 0x1b, 1]);
    for (const each of [slow, quick]) {
      load(each, made, codePage);
      each.cpu.state.set64(State.transfer, 0x1122334455667788n);
      each.cpu.state.set32(State.faultVector, NO_FAULT);
      each.cpu.state.set32(State.faultError, 0);
      each.cpu.state.set64(State.faultAddress, 0n);
    }
    // The piece of memory is known from an access of TypeScript's.
    if (index === 0) for (const { cpu } of [slow, quick]) cpu.memory.load(0x1000, 8, AccessKind.IMPLICIT);
    const before = general;
    const va = Number(BigInt.asIntN(64, made.address));
    const size = random.pick([1, 2, 4, 8, 16]);
    // The second one meets what the first one has left.
    for (const isWrite of random.pick([[false], [true], [false, true], [true, false]])) {
      const kind = random.pick([0, AccessKind.STACK]);
      const message = `${isWrite ? "write" : "read"} of ${size} at 0x${made.address.toString(16)}, LODGE_SEED=${seed}, case ${index}`;
      const name = isWrite ? "store" : "load";
      const expected = slow.cpu.memory[name](va, size, kind);
      assert.equal(meanings.quick[name](made.address, size, kind), expected, message);
      const now = snapshot(quick, va);
      assert.deepEqual(now, snapshot(slow, va), message);
      const flushes = random.pick([false, true]);
      for (const { cpu } of [slow, quick]) {
        cpu.state.set32(State.faultVector, NO_FAULT);
        if (flushes) cpu.flushNonGlobal();
      }
    }
    if (general === before) done++;
  }
  t.diagnostic(`${done} of ${CASES} were quick`);
  assert.ok(done > CASES / 4, `only ${done} were quick`);
});
