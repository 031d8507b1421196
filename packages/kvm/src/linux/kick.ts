/**
 * Stopping a vCPU that another thread runs. The kick sets `immediate_exit` in the run page, which catches the vCPU before
 * KVM_RUN, and sends a signal that only KVM_RUN unblocks, which catches it inside. So there is no moment in which a kick
 * is lost, and no signal handler (api.rst 4.21 and section 5, `immediate_exit`).
 */

import {
  blockedSignals,
  blockSignals,
  consumeSignal,
  gettid,
  ignoreSignal,
  SIGRTMIN,
  sendSignal,
  signalSet,
  viewMemory,
} from "@lodge/linux";
import type { Kicker, KickHandle } from "../hypervisor.ts";
import { Run } from "../layout/run.ts";
import { request } from "./request.ts";

const KICK_SIGNAL = SIGRTMIN + 2;
const kickSet = signalSet(KICK_SIGNAL);

export interface LinuxKickHandle extends KickHandle {
  readonly kind: "kvm";
  readonly tid: number;
  /** The run page's address in this process. */
  readonly page: number;
  readonly gate: SharedArrayBuffer;
}

/** The gate's words: no kicker may touch the page or signal the thread once the vCPU is closed. */
const CLOSED = 0;
const INSIDE = 1;

/**
 * Lets kicks reach the vCPU `fd` that this thread runs. Blocks the signal here before anybody knows the thread's number:
 * unblocked it would reach the whole process. (It is ignored process-wide, so a stray one does nothing; where it is
 * blocked it still becomes pending, which is what KVM_RUN returns for.)
 */
export function acceptKicks(fd: number, page: number): LinuxKickHandle {
  ignoreSignal(KICK_SIGNAL);
  blockSignals(KICK_SIGNAL);
  // struct kvm_signal_mask: u32 len, then the kernel's 8-byte set.
  const mask = new DataView(new ArrayBuffer(12));
  mask.setUint32(0, 8, true);
  mask.setBigUint64(4, blockedSignals() & ~kickSet[0]!, true);
  request(fd, "KVM_SET_SIGNAL_MASK", mask);
  return { kind: "kvm", tid: gettid(), page, gate: new SharedArrayBuffer(8) };
}

/** Takes the pending kick signals of this thread; else every following KVM_RUN would return at once. */
export function consumeKicks(): void {
  while (consumeSignal(kickSet) !== 0);
}

/** Shuts the gate and waits for kickers that are inside; afterwards the page may be unmapped. */
export function refuseKicks(handle: LinuxKickHandle): void {
  const gate = new Int32Array(handle.gate);
  Atomics.store(gate, CLOSED, 1);
  for (let inside = Atomics.load(gate, INSIDE); inside > 0; inside = Atomics.load(gate, INSIDE)) {
    Atomics.wait(gate, INSIDE, inside);
  }
  consumeKicks();
}

export class LinuxKicker implements Kicker {
  readonly #tid: number;
  readonly #page: Uint8Array;
  readonly #gate: Int32Array;

  constructor(handle: LinuxKickHandle) {
    this.#tid = handle.tid;
    this.#gate = new Int32Array(handle.gate);
    // Only touched inside the gate.
    this.#page = new Uint8Array(viewMemory(handle.page, Run.offset.exitReason));
  }

  kick(): boolean {
    Atomics.add(this.#gate, INSIDE, 1);
    try {
      if (Atomics.load(this.#gate, CLOSED) !== 0) return false;
      Atomics.store(this.#page, Run.offset.immediateExit, 1);
      return sendSignal(process.pid, this.#tid, KICK_SIGNAL);
    } finally {
      if (Atomics.sub(this.#gate, INSIDE, 1) === 1) Atomics.notify(this.#gate, INSIDE);
    }
  }
}
