/** What devices refuse: what they were built with, never what a guest does. */

export type DeviceErrorCode = "DEVICE_STATE" | "DEVICE_CONFIGURATION";

export class DeviceError extends Error {
  override readonly name = "DeviceError";
  /** `DEVICE_STATE`: saved state that cannot be restored. `DEVICE_CONFIGURATION`: impossible settings. */
  readonly code: DeviceErrorCode;

  constructor(code: DeviceErrorCode, message: string, options?: ErrorOptions) {
    super(message, options);
    this.code = code;
  }
}
