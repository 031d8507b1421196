/** Kicks a vCPU that has been in one run for too long. Runs as a worker; see beside-kvm.ts. */

import { workerData } from "node:worker_threads";
import { openKvm } from "@lodge/kvm/linux";

const { kickHandle, runs } = workerData;
const words = new Int32Array(runs as SharedArrayBuffer);
const LIMIT_MS = 200;

// Word 0 counts runs; it is odd during one. Word 1 is set when the vCPU is about to be closed.
const closing = () => Atomics.load(words, 1) !== 0;
try {
  using kvm = openKvm();
  const kicker = kvm.attachKicker(kickHandle);
  while (!closing()) {
    const count = Atomics.load(words, 0);
    Atomics.wait(words, 1, 0, LIMIT_MS);
    if (count & 1 && Atomics.load(words, 0) === count) kicker.kick();
  }
} catch (error) {
  // A test may be over before this thread has begun.
  if (!closing()) throw error;
}
