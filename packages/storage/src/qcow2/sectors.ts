/** A table that is held whole: which of its sectors differ from what is stored. */

const SECTOR = 512;

export class DirtySectors {
  #table: Uint8Array<ArrayBuffer>;
  readonly #dirty = new Set<number>();

  constructor(table: Uint8Array<ArrayBuffer>) {
    this.#table = table;
  }

  get count(): number {
    return this.#dirty.size;
  }

  touch(byte: number): void {
    this.#dirty.add(Math.floor(byte / SECTOR));
  }

  /** Copies of the dirty sectors, which are dirty no longer, with their places in the table. */
  take(): { at: number; bytes: Uint8Array }[] {
    const taken = [...this.#dirty].map((sector) => ({
      at: sector * SECTOR,
      bytes: this.#table.slice(sector * SECTOR, (sector + 1) * SECTOR),
    }));
    this.#dirty.clear();
    return taken;
  }

  /** Another table, which is stored as it is. */
  replace(table: Uint8Array<ArrayBuffer>): void {
    this.#table = table;
    this.#dirty.clear();
  }
}
