/** What storage refuses. */

export type StorageErrorCode =
  /** The image cannot be opened as asked. */
  | "STORAGE_OPEN"
  /** What an image says of itself cannot be. */
  | "STORAGE_CORRUPT"
  /** A transfer failed: the host's disk is full or broken, or the file has shrunk. */
  | "STORAGE_IO"
  /** The host lacks a tool or a mount, or its tool refuses. */
  | "STORAGE_HOST";

export class StorageError extends Error {
  override readonly name = "StorageError";
  readonly code: StorageErrorCode;

  constructor(code: StorageErrorCode, message: string, options?: ErrorOptions) {
    super(message, options);
    this.code = code;
  }
}

/** Zeros would have to be written, and were wanted only without. */
export function notFast(name: string): StorageError {
  const cause = Object.assign(new Error("operation not supported"), { code: "ENOTSUP" });
  return new StorageError("STORAGE_IO", `${name}: zeros are not made faster than written here`, { cause });
}

/** Whether a failure is for want of space on the host, which may come back. */
export function isNoSpace(error: unknown): boolean {
  for (let at = error; at instanceof Error; at = at.cause) {
    const { code } = at as NodeJS.ErrnoException;
    if (code === "ENOSPC" || code === "EDQUOT") return true;
  }
  return false;
}
