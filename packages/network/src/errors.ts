/** What a network refuses. */

export type NetworkErrorCode =
  /** The configuration cannot be meant: found before anything was made. */
  | "NETWORK_CONFIG"
  /** The host refused: a port is taken, something is not permitted. */
  | "NETWORK_HOST";

export class NetworkError extends Error {
  override readonly name = "NetworkError";
  readonly code: NetworkErrorCode;

  constructor(code: NetworkErrorCode, message: string, options?: ErrorOptions) {
    super(message, options);
    this.code = code;
  }
}
