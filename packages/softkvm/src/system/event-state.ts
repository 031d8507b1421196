/** What waits to be delivered to a processor, beside what its interrupt controller holds: KVM's `kvm_vcpu_events`. */

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
  /** Between an NMI's delivery and the next IRET. */
  nmiMasked = false;
  /** Taken from the guest, not yet delivered. */
  nmiInjected = false;
  sipiVector = 0;
  tripleFault = false;

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
