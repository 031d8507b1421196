import assert from "node:assert/strict";
import { test } from "node:test";
import { compare, median } from "./harness.ts";
import { table } from "./table.ts";

test("the median of odd and even numbers of values, in whatever order", () => {
  assert.equal(median([5]), 5);
  assert.equal(median([10, 9, 1]), 9);
  assert.equal(median([4, 1, 3, 2]), 2.5);
  assert.throws(() => median([]), RangeError);
});

test("both sides take turns, each begins every other round, and the first round is not counted", async () => {
  const calls: string[] = [];
  const side = (name: string, values: number[]) => () => {
    calls.push(name);
    return values.shift()!;
  };
  const result = await compare({
    what: "a loop",
    unit: "ns",
    ours: side("a", [1000, 30, 10, 20]),
    theirs: side("b", [1000, 10, 10, 40]),
    rounds: 3,
    limit: 3,
  });
  assert.equal(calls.join(""), "abbaabba");
  assert.deepEqual(result, { what: "a loop", unit: "ns", ours: 20, theirs: 10, ratio: 2, limit: 3, rounds: 3 });
});

test("results are an aligned table", () => {
  const comparison = { what: "a loop", unit: "ns", ours: 1234.5, theirs: 1000, ratio: 1.2345, limit: 1.1, rounds: 3 };
  const figure = { what: "what a process keeps", unit: "MiB", value: 12.34 };
  const text = table({ against: "C", comparisons: [comparison], figures: [figure] });
  assert.equal(
    text,
    [
      "          Lodge        C  ratio  limit",
      "a loop  1235 ns  1000 ns   1.23   1.10  over",
      "",
      "what a process keeps  12.3 MiB",
    ].join("\n"),
  );
});
