/** An image's tables, read in pages of which the last used are kept: memory does not grow with what a header claims. */

import { StorageError } from "../errors.ts";
import type { Store } from "../image.ts";

const PAGE_BYTES = 16 << 10;
const MAX_PAGES = 64;

export class Pages {
  readonly store: Store;
  /** In the order of their use. */
  readonly #pages = new Map<number, Buffer>();

  constructor(store: Store) {
    this.store = store;
  }

  /** A copy or view of up to a page's bytes; all of them are inside the store, or it is damaged. */
  async bytes(at: number, length: number): Promise<Buffer> {
    if (!(at >= 0 && at + length <= this.store.sizeBytes)) {
      const what = `${length} bytes at ${at}: it has ${this.store.sizeBytes}`;
      throw new StorageError("STORAGE_IO", `${this.store.name} is damaged: a table is expected in ${what}`);
    }
    const start = at % PAGE_BYTES;
    const page = await this.#page(at - start);
    if (start + length <= page.length) return page.subarray(start, start + length);
    const next = await this.#page(at - start + PAGE_BYTES);
    return Buffer.concat([page.subarray(start), next]).subarray(0, length);
  }

  async #page(at: number): Promise<Buffer> {
    const known = this.#pages.get(at);
    if (known !== undefined) {
      this.#pages.delete(at);
      this.#pages.set(at, known);
      return known;
    }
    const page = Buffer.alloc(Math.min(PAGE_BYTES, this.store.sizeBytes - at));
    await this.store.read(at, [page]);
    this.#pages.set(at, page);
    if (this.#pages.size > MAX_PAGES) this.#pages.delete(this.#pages.keys().next().value!);
    return page;
  }
}
