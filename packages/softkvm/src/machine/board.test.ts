import assert from "node:assert/strict";
import { test } from "node:test";
import { Worker } from "node:worker_threads";
import { Board } from "./board.ts";

const ROUNDS = 5_000;
/** Far more than the whole test takes. */
const LOST_MS = 30_000;

/** Sleeps until it is asked, as often as the test asks, and counts in `words`. */
const SLEEPER = `
  const { workerData } = require("node:worker_threads");
  const { board, buffer, slot, words, rounds, lostMs } = workerData;
  import(board).then(({ Board }) => {
    const board = new Board(buffer);
    for (let round = 0; round < rounds; round++) {
      // Whatever was asked before it slept does not let it sleep.
      while (board.take(slot) === 0) board.sleep(slot, lostMs);
      Atomics.add(words, 0, 1);
      Atomics.notify(words, 0);
    }
  });
`;

test("who is asked on the way to sleep does not sleep", async () => {
  const board = new Board();
  const slot = board.openVcpu();
  const words = new Int32Array(new SharedArrayBuffer(4));
  const workerData = {
    ...{ board: new URL("./board.ts", import.meta.url).href, buffer: board.buffer, slot },
    ...{ words, rounds: ROUNDS, lostMs: LOST_MS * 2 },
  };
  const thread = new Worker(SLEEPER, { eval: true, workerData });
  const ended = new Promise((resolve, reject) => thread.once("exit", resolve).once("error", reject));
  try {
    for (let round = 0; round < ROUNDS; round++) {
      // Sooner and later on its way.
      for (let turn = round % 512; turn > 0; turn--) Atomics.load(words, 0);
      board.ask(slot, 1);
      while (Atomics.load(words, 0) === round) {
        assert.notEqual(Atomics.wait(words, 0, round, LOST_MS), "timed-out", `the ask of round ${round} was lost`);
      }
    }
    assert.equal(await ended, 0);
  } finally {
    await thread.terminate();
  }
});
