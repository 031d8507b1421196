import assert from "node:assert/strict";
import { test } from "node:test";
import type { Block } from "../interpreter/block.ts";
import { ENOUGH_RUNS, FIRST_RUNS, LONG_BUDGETS, Warmth } from "./warmth.ts";

/** A block that runs so often for each budget: after how many runs it is warm. */
function runsUntilWarm(perBudget: number): number {
  const warmth = new Warmth();
  const block = {} as Block;
  let runs = FIRST_RUNS;
  for (let more = -1; more !== 0; runs += more) more = warmth.next(block, Math.floor(runs / perBudget));
  return runs;
}

test("what runs all at once has to run often", () => {
  assert.equal(runsUntilWarm(ENOUGH_RUNS), ENOUGH_RUNS);
  assert.equal(runsUntilWarm((2 * ENOUGH_RUNS) / LONG_BUDGETS), ENOUGH_RUNS);
});

test("what goes on for long is warm earlier, but not by its first runs", () => {
  assert.ok(runsUntilWarm(FIRST_RUNS / LONG_BUDGETS) < ENOUGH_RUNS / 4);
  assert.ok(runsUntilWarm(0.01) > FIRST_RUNS);
  const slow = runsUntilWarm(1);
  const quick = runsUntilWarm(4);
  assert.ok(slow <= quick && quick <= ENOUGH_RUNS, `${slow} and ${quick} runs`);
});

test("what nothing delays and nobody waits for is warm when it is first told of", () => {
  assert.equal(new Warmth().next({} as Block, 0, true), 0);
});

test("a block that was compiled and came back begins anew", () => {
  const warmth = new Warmth();
  const block = {} as Block;
  assert.ok(warmth.next(block, 0) > 0);
  assert.equal(warmth.next(block, LONG_BUDGETS), 0);
  assert.ok(warmth.next(block, LONG_BUDGETS) > 0);
  assert.ok(warmth.next(block, LONG_BUDGETS + 1) > 0);
});

test("blocks are told apart", () => {
  const warmth = new Warmth();
  const [one, other] = [{} as Block, {} as Block];
  assert.ok(warmth.next(one, 0) > 0);
  assert.ok(warmth.next(other, LONG_BUDGETS) > 0);
  assert.equal(warmth.next(one, LONG_BUDGETS), 0);
});
