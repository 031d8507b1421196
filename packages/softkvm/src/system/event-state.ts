/** What waits to be delivered to a processor, beside what its interrupt controller holds: KVM's `kvm_vcpu_events`. */

import { State } from "../cpu/layout.ts";
import type { CpuState } from "../cpu/state.ts";

export interface PendingException {
  vector: number;
  /** undefined: this vector pushes none. */
  error: number | undefined;
  /** The new CR2 of a page fault, the DR6 bits of a debug exception. */
  payload: bigint | undefined;
  /** Pushed by an instruction (INT3, INTO, INT1): the return address is the next instruction's. */
  soft: boolean;
  /** The monitor set it as pending, not as injected: it is told so again. */
  pending?: boolean;
}

export class Events {
  /** An exception whose delivery is due, or was begun and has to be begun again. */
  exception: PendingException | undefined;
  /** An interrupt that was taken from its controller and not yet delivered: the vector, or -1. */
  interrupt = -1;
  /** {@link interrupt} is an INT n that was cut short. */
  interruptSoft = false;
  /** NMIs latched, up to two; one is served while {@link nmiMasked}. */
  nmisPending = 0;
  /** Taken from the guest, not yet delivered. */
  nmiInjected = false;
  sipiVector = 0;
  tripleFault = false;
  readonly #state: CpuState;

  constructor(state: CpuState) {
    this.#state = state;
  }

  /** Between an NMI's delivery and the next IRET. */
  get nmiMasked(): boolean {
    return this.#state.get32(State.nmiMasked) !== 0;
  }
  set nmiMasked(masked: boolean) {
    this.#state.set32(State.nmiMasked, masked ? 1 : 0);
  }

  clear(): void {
    this.exception = undefined;
    this.interrupt = -1;
    this.interruptSoft = false;
    this.nmisPending = 0;
    this.nmiMasked = false;
    this.nmiInjected = false;
    this.tripleFault = false;
  }
}
