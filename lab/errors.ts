/** What went wrong with the lab itself, never with the command that ran in it. */
export type LabErrorCode = "UNAVAILABLE" | "BUILD" | "BOOT" | "TIMEOUT" | "USAGE";

export class LabError extends Error {
  readonly code: LabErrorCode;

  constructor(code: LabErrorCode, message: string, options?: ErrorOptions) {
    super(message, options);
    this.name = "LabError";
    this.code = code;
  }
}
