/** A device in a thread of its own that pulses a line, and counts the statuses that are none of "masked". */

import { parentPort, workerData } from "node:worker_threads";
import { InterruptController } from "../interrupt-controller.ts";

export interface LineTask {
  area: SharedArrayBuffer;
  /** The first word starts. */
  words: SharedArrayBuffer;
  gsi: number;
  rounds: number;
}

const { area, words: buffer, gsi, rounds } = workerData as LineTask;
const words = new Int32Array(buffer);
const controller = new InterruptController(area, 0, 1, { wake: () => {}, resample: () => {}, nowNs: () => 0 });
parentPort!.postMessage("ready");
Atomics.wait(words, 0, 0);
let taken = 0;
for (let round = 0; round < rounds; round++) {
  if (controller.setIrqLine(gsi, true) >= 0) taken++;
  controller.setIrqLine(gsi, false);
}
parentPort!.postMessage(taken);
