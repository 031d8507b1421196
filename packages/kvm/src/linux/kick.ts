/**
 * Stopping a vCPU that another thread runs. The kick sets `immediate_exit` in the run page, which catches the vCPU before
 * KVM_RUN, and sends its thread a signal, which catches it inside. The kernel looks at the byte first and at pending signals
 * after that, until the guest is entered, so there is no moment in which a kick is lost (api.rst section 5,
 * `immediate_exit`). The signal's handler does nothing. Blocking the signal outside of KVM_RUN (KVM_SET_SIGNAL_MASK) would
 * work as well, but costs two changes of the mask with every run.
 */

import { interruptOnly, SIGRTMIN, sendSignal, unblockSignals } from "@lodge/linux";
import type { Kicker, KickHandle } from "../hypervisor.ts";
import { Run } from "../layout/run.ts";
import type { SharedVmRecord } from "./shared-record.ts";
import { VCPU_WORDS, VcpuEntry } from "./vcpu-entry.ts";

const KICK_SIGNAL = SIGRTMIN + 2;

export interface LinuxKickHandle extends KickHandle {
  readonly kind: "kvm";
  /** Where, in the machine's memory, the vCPU's entry and its run page are. */
  readonly memory: SharedArrayBuffer;
  readonly entry: number;
  readonly page: number;
}

/** Lets kicks reach this thread. Before anybody can send one: by default the signal ends the process. */
export function acceptKicks(record: SharedVmRecord, vcpu: number): LinuxKickHandle {
  interruptOnly(KICK_SIGNAL);
  // Whoever started this process may have blocked it.
  unblockSignals(KICK_SIGNAL);
  const { buffer } = record.place;
  return { kind: "kvm", memory: buffer, entry: record.entryOffset(vcpu), page: record.runPageOffset(vcpu) };
}

export class LinuxKicker implements Kicker {
  readonly #entry: VcpuEntry;
  /** Only touched inside the gate. */
  readonly #page: Uint8Array;

  constructor({ memory, entry, page }: LinuxKickHandle) {
    this.#entry = new VcpuEntry(new Int32Array(memory, entry, VCPU_WORDS), 0);
    this.#page = new Uint8Array(memory, page, Run.offset.exitReason);
  }

  kick(): boolean {
    if (!this.#entry.enter()) return false;
    try {
      Atomics.store(this.#page, Run.offset.immediateExit, 1);
      return sendSignal(process.pid, this.#entry.tid, KICK_SIGNAL);
    } finally {
      this.#entry.leave();
    }
  }
}
