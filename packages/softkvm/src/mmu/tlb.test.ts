/** What is flushed is gone and what is not is still there, whatever came before. LODGE_SEED repeats a run. */

import assert from "node:assert/strict";
import { test } from "node:test";
import { Random } from "../../testing/random.ts";
import { STATE_SIZE, Tlb } from "../cpu/layout.ts";
import { CpuState } from "../cpu/state.ts";
import { LookasideBuffers, TlbTable } from "./tlb.ts";

const { LODGE_SEED } = process.env;
const seed = LODGE_SEED === undefined ? Date.now() % 1_000_000_000 : Number(LODGE_SEED);
const STEPS = 20_000;

/** Few enough that pages come again, and some of them in each other's place. */
const PAGES = Array.from(
  { length: 18 },
  (_, index) => (index % 6) * 4096 + [0, Tlb.entries * 4096, 2 ** 46][Math.floor(index / 6)]!,
);

interface Filled {
  readonly va: number;
  readonly table: TlbTable;
  readonly linear: number;
  readonly pageShift: number;
  readonly global: boolean;
}

test(`flushes take what they say and leave the rest (seed ${seed})`, () => {
  const random = new Random(seed);
  const tlb = new LookasideBuffers(new CpuState(new ArrayBuffer(STATE_SIZE), 0));
  /** What was filled and not flushed since, by entry: there may be less, as entries push each other out. */
  const model = new Map<string, Filled>();
  const entryOf = (bank: number, table: TlbTable, va: number) => [bank, table, (va / 4096) % Tlb.entries].join();
  const drop = (condition: (each: Filled) => boolean) => {
    for (const [key, each] of model) if (condition(each)) model.delete(key);
  };
  for (let step = 0; step < STEPS; step++) {
    const va = random.pick(PAGES);
    const linear = (random.pick(PAGES) % 2 ** 32) + 0x100000;
    switch (
      random.pick(["fill", "fill", "fill", "fill", "non-global", "page", "writes", "writes to", "all"] as const)
    ) {
      case "fill": {
        const bank = random.pick([Tlb.SUPERVISOR, Tlb.USER, Tlb.SUPERVISOR_AC]);
        const table = random.pick([TlbTable.READ, TlbTable.WRITE]);
        const global = random.pick([true, true, false]);
        const pageShift = random.pick([12, 12, 21, 30]);
        tlb.fill(bank, table, va, linear, pageShift, global);
        model.set(entryOf(bank, table, va), { va, table, linear, pageShift, global });
        break;
      }
      case "non-global":
        tlb.flushNonGlobal();
        drop(({ global }) => !global);
        break;
      case "page":
        tlb.flushPage(va);
        drop((each) => Math.floor(each.va / 2 ** each.pageShift) === Math.floor(va / 2 ** each.pageShift));
        break;
      case "writes":
        tlb.flushWrites();
        drop(({ table }) => table === TlbTable.WRITE);
        break;
      case "writes to":
        tlb.flushWritesTo(linear);
        drop((each) => each.table === TlbTable.WRITE && each.linear === linear);
        break;
      case "all":
        // Seldom, as little is left to go wrong behind it.
        if (random.pick([true, false, false, false])) {
          tlb.flushAll();
          model.clear();
        }
        break;
    }
    for (let bank = 0; bank < Tlb.banks; bank++) {
      for (const table of [TlbTable.READ, TlbTable.WRITE]) {
        for (const page of PAGES) {
          const known = model.get(entryOf(bank, table, page));
          const expected = known?.va === page ? known.linear : -1;
          assert.equal(tlb.lookup(bank, table, page), expected, `step ${step}, LODGE_SEED=${seed}`);
        }
      }
    }
  }
});
