/** One bit for each 4 KiB page of linear memory, in shared memory: which pages are dirty, which hold translated code. */

export class PageBits {
  readonly #words: Int32Array;

  /** `words` has at least one bit for each page. */
  constructor(words: Int32Array) {
    this.#words = words;
  }

  /** The words that so many pages take. */
  static wordsFor(pages: number): number {
    return Math.ceil(pages / 32);
  }

  /** As of now or a moment ago: who relies on it has been told of changes. */
  has(page: number): boolean {
    return ((this.#words[page >>> 5]! >>> (page & 31)) & 1) !== 0;
  }

  /** Sets a bit; one that is set already is only read, so that the cache line stays shared. */
  set(page: number): void {
    if (!this.has(page)) Atomics.or(this.#words, page >>> 5, 1 << (page & 31));
  }

  clear(page: number): void {
    if (this.has(page)) Atomics.and(this.#words, page >>> 5, ~(1 << (page & 31)));
  }

  fill(first: number, count: number, value: boolean): void {
    forEachWord(first, count, (word, mask) => {
      if (value) Atomics.or(this.#words, word, mask);
      else Atomics.and(this.#words, word, ~mask);
    });
  }

  /** Copies the bits of a range into a bitmap whose bit 0 is the range's first page. */
  read(first: number, count: number, bitmap: Uint8Array): void {
    this.#copy(first, count, bitmap, false);
  }

  /** As {@link read}, and clears what it read: a bit that is set meanwhile is read now or stays for the next time. */
  take(first: number, count: number, bitmap: Uint8Array): void {
    this.#copy(first, count, bitmap, true);
  }

  /** Clears the bits of a range that are set in a bitmap whose bit 0 is the range's first page. */
  clearThose(first: number, count: number, bitmap: Uint8Array): void {
    for (let index = 0; index < count; index++) {
      if (((bitmap[index >>> 3] ?? 0) >>> (index & 7)) & 1) this.clear(first + index);
    }
  }

  #copy(first: number, count: number, bitmap: Uint8Array, clear: boolean): void {
    bitmap.fill(0, 0, Math.ceil(count / 8));
    forEachWord(first, count, (word, mask) => {
      let bits = Atomics.load(this.#words, word) & mask;
      if (bits === 0) return;
      if (clear) bits = Atomics.and(this.#words, word, ~mask) & mask;
      for (; bits !== 0; bits &= bits - 1) {
        const index = word * 32 + (31 - Math.clz32(bits & -bits)) - first;
        bitmap[index >>> 3]! |= 1 << (index & 7);
      }
    });
  }
}

/** Calls back for each word that a range of bits touches, with the mask of the range's bits in it. */
function forEachWord(first: number, count: number, visit: (word: number, mask: number) => void): void {
  const end = first + count;
  for (let bit = first; bit < end; ) {
    const low = bit & 31;
    const width = Math.min(32 - low, end - bit);
    visit(bit >>> 5, width === 32 ? -1 : ((1 << width) - 1) << low);
    bit += width;
  }
}
