/** What a machine refuses, in words that say what to do. */

/** The stable codes of {@link MachineError}. */
export type MachineErrorCode =
  /** A kernel that no boot protocol fits, or that is damaged. */
  | "MACHINE_KERNEL"
  /** What was asked for does not fit together, or not into this machine. */
  | "MACHINE_INVALID"
  /** Asked of a machine in a state that does not allow it. */
  | "MACHINE_STATE"
  /** The host lacks something. */
  | "MACHINE_HOST";

export class MachineError extends Error {
  override readonly name = "MachineError";
  readonly code: MachineErrorCode;

  constructor(code: MachineErrorCode, message: string, options?: ErrorOptions) {
    super(message, options);
    this.code = code;
  }
}
