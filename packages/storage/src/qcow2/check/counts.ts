/** A number for each cluster of a file: how often it is referred to, or what its refcount is. */

const PAGE = 4096;

export class Counts {
  readonly clusterSize: number;
  /** The clusters of the file; the last may be there in part. */
  end: number;
  readonly #pages = new Map<number, Uint32Array>();

  constructor(clusterSize: number, fileBytes: number) {
    this.clusterSize = clusterSize;
    this.end = Math.ceil(fileBytes / clusterSize);
  }

  get(cluster: number): number {
    return this.#pages.get(Math.floor(cluster / PAGE))?.[cluster % PAGE] ?? 0;
  }

  /** Counts references to all clusters of a range; false if it is not inside the file. */
  add(offset: number, length: number, references: number): boolean {
    const first = Math.floor(offset / this.clusterSize);
    const last = Math.floor((offset + length - 1) / this.clusterSize);
    if (last >= this.end) return false;
    for (let cluster = first; cluster <= last; cluster++) {
      this.#page(cluster)[cluster % PAGE]! += references;
    }
    return true;
  }

  /** Sets one number; what does not fit is the largest. */
  set(cluster: number, value: number): void {
    this.#page(cluster)[cluster % PAGE] = Math.min(value, 0xffffffff);
  }

  #page(cluster: number): Uint32Array {
    const index = Math.floor(cluster / PAGE);
    let page = this.#pages.get(index);
    if (page === undefined) {
      page = new Uint32Array(PAGE);
      this.#pages.set(index, page);
    }
    return page;
  }

  /** Every cluster with a number other than 0, in order. */
  *used(): Generator<[cluster: number, references: number]> {
    for (const index of [...this.#pages.keys()].sort((a, b) => a - b)) {
      for (const [at, references] of this.#pages.get(index)!.entries()) {
        if (references > 0) yield [index * PAGE + at, references];
      }
    }
  }
}
