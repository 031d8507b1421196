/** A disk as a device sees it. */

/**
 * Bytes by offset. Transfers take pieces of memory, which may be a guest's, and move each byte once. They may run side by
 * side and end in any order; a flush covers what had ended when it began. Callers stay inside `sizeBytes`. Failures
 * reject with a {@link StorageError}.
 */
export interface Disk {
  /** A multiple of 512. */
  readonly sizeBytes: number;
  readonly readOnly: boolean;

  /** Fills `pieces`, in order, from `offset` on. */
  read(offset: number, pieces: readonly Uint8Array[]): Promise<void>;
  /** Writes `pieces`, in order, from `offset` on. */
  write(offset: number, pieces: readonly Uint8Array[]): Promise<void>;
  /** Makes lasting what was written. */
  flush(): Promise<void>;
  /** The content of this range is no longer wanted; what is read there afterwards is anybody's guess. */
  discard(offset: number, length: number): Promise<void>;
  /**
   * Makes the range read as zeros; with `mayUnmap`, its space may be given back. With `onlyFast` it is refused (the cause's code
   * is `ENOTSUP`) where they would have to be written; part of the range may be zeros then.
   */
  writeZeroes(offset: number, length: number, mayUnmap: boolean, onlyFast?: boolean): Promise<void>;
  close(): Promise<void>;
}
