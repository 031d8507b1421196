/** What a machine's user got wrong, or the host cannot give, in one line that says what to do. */

export type VmmErrorCode =
  /** The configuration cannot be meant: found before anything was made. */
  | "VMM_CONFIG"
  /** A program that the work needs is not installed. */
  | "VMM_TOOL_MISSING"
  /** An image that is unknown, or could not be built. */
  | "VMM_IMAGE"
  /** The guest's agent did what no agent does, or is gone. */
  | "VMM_AGENT"
  /** The machine has ended. */
  | "VMM_ENDED";

export class VmmError extends Error {
  override readonly name = "VmmError";
  readonly code: VmmErrorCode;

  constructor(code: VmmErrorCode, message: string, options?: ErrorOptions) {
    super(message, options);
    this.code = code;
  }
}
