/** A thread that stops the vCPU of the fuzzer when a case does not end by itself. */

import { workerData } from "node:worker_threads";
import type { KickHandle } from "@lodge/kvm";
import { openKvm } from "@lodge/kvm/linux";

export interface WatchdogData {
  readonly kick: KickHandle;
  /** Word 0 counts the entries of the guest; word 1 is not 0 once the fuzzer is done. */
  readonly beat: Int32Array;
}

const PATIENCE_MS = 250;

const { kick, beat } = workerData as WatchdogData;
using kvm = openKvm();
const kicker = kvm.attachKicker(kick);
let seen = -1;
// Even while the guest is left, odd while it runs.
while (Atomics.wait(beat, 1, 0, PATIENCE_MS) === "timed-out") {
  const now = Atomics.load(beat, 0);
  if (now === seen && now & 1) kicker.kick();
  seen = now;
}
