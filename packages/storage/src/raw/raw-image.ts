/** The raw format: the disk's bytes as they are. */

import { StorageError } from "../errors.ts";
import type { Pieces } from "../file/pieces.ts";
import type { Extent, Image, Store } from "../image.ts";

const SECTOR = 512;

export class RawImage implements Image {
  readonly format = "raw";
  readonly store: Store;

  /** Takes over `store`, whose size must be a multiple of 512 and not 0. */
  constructor(store: Store) {
    this.store = store;
    if (store.sizeBytes === 0 || store.sizeBytes % SECTOR !== 0) {
      throw new StorageError(
        "STORAGE_OPEN",
        `${store.name} has ${store.sizeBytes} bytes: a raw disk has a multiple of ${SECTOR}`,
      );
    }
  }

  get name(): string {
    return this.store.name;
  }

  get sizeBytes(): number {
    return this.store.sizeBytes;
  }

  get readOnly(): boolean {
    return this.store.readOnly;
  }

  read(offset: number, pieces: Pieces): Promise<void> {
    return this.store.read(offset, pieces);
  }

  write(offset: number, pieces: Pieces): Promise<void> {
    return this.store.write(offset, pieces);
  }

  flush(): Promise<void> {
    return this.store.flush();
  }

  discard(offset: number, length: number): Promise<void> {
    return this.store.discard(offset, length);
  }

  writeZeroes(offset: number, length: number, mayUnmap: boolean, onlyFast = false): Promise<void> {
    return this.store.writeZeroes(offset, length, mayUnmap, onlyFast);
  }

  resize(sizeBytes: number): Promise<void> {
    return this.store.resize(sizeBytes);
  }

  status(offset: number, length: number): Promise<Extent> {
    return this.store.status(offset, length);
  }

  close(): Promise<void> {
    return this.store.close();
  }
}
