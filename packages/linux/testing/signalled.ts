/**
 * A thread that blocks one signal, tells its number, and on each "consume" answers with the signals it takes until none
 * is pending.
 */

import { parentPort, workerData } from "node:worker_threads";
import { blockSignals, consumeSignal, gettid, signalSet } from "../src/index.ts";

const { signal }: { signal: number } = workerData;
const set = signalSet(signal);
blockSignals(signal);
parentPort!.on("message", () => {
  const taken: number[] = [];
  for (let one = consumeSignal(set); one !== 0; one = consumeSignal(set)) taken.push(one);
  parentPort!.postMessage(taken);
});
parentPort!.postMessage(gettid());
