/** Adds to a number in shared memory under the lock, slowly, so that two at once would undo each other's. */

import { parentPort, workerData } from "node:worker_threads";
import { SharedLock } from "@lodge/kvm";

export interface LockTask {
  /** The lock, the number, and a word that starts. */
  words: SharedArrayBuffer;
  rounds: number;
}

const { words: buffer, rounds } = workerData as LockTask;
const words = new Int32Array(buffer);
const lock = new SharedLock(words, 0);
parentPort!.postMessage("ready");
Atomics.wait(words, 2, 0);
for (let round = 0; round < rounds; round++) {
  lock.acquire();
  const number = words[1]!;
  for (let pause = 0; pause < 100; pause++) Atomics.load(words, 0);
  words[1] = number + 1;
  lock.release();
}
parentPort!.postMessage("done");
