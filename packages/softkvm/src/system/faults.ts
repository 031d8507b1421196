/** How microcode stops: a fault of the guest, or an access that the monitor answers. */

/** Thrown when the exception is recorded in the state. One object, made once: throwing it captures no stack. */
class GuestFault extends Error {
  override readonly name = "GuestFault";
}
/** Thrown when the vCPU has to leave and the instruction is to be executed again. */
class GuestExit extends Error {
  override readonly name = "GuestExit";
}

export const GUEST_FAULT: Error = new GuestFault("the guest's exception escaped the instruction that raised it");
export const GUEST_EXIT: Error = new GuestExit("a request to the monitor escaped the instruction that made it");
