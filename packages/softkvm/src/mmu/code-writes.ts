/**
 * Which pages of translated code were written lately: a ring in shared memory, in which each vCPU reads for itself what
 * the others, and the monitor, have written. Whoever falls behind by more than the ring holds forgets all its code.
 */

const ENTRIES = 1024;
/** An entry is a page's number (of up to 16 GiB), and above it the lower bits of the round in which it was written. */
const PAGE_BITS = 22;
const PAGE_MASK = (1 << PAGE_BITS) - 1;

export class CodeWrites {
  /** Words that it takes: the next entry's number, and the entries. */
  static readonly words = 1 + ENTRIES;
  readonly #words: Int32Array;

  constructor(words: Int32Array) {
    this.#words = words;
  }

  /** Where somebody begins to read who has no code yet. */
  get end(): number {
    return Atomics.load(this.#words, 0);
  }

  /** Notes a page. Returns where its writer, who has read up to `seen`, reads next: behind it, if nothing else came. */
  push(page: number, seen: number): number {
    const at = Atomics.add(this.#words, 0, 1);
    Atomics.store(this.#words, slotOf(at), entry(page, at));
    return at === seen ? (at + 1) | 0 : seen;
  }

  /** Visits the pages from `seen` on, and returns where to read next; undefined when some of them are lost. */
  read(seen: number, visit: (page: number) => void): number | undefined {
    const { end } = this;
    if (((end - seen) | 0) > ENTRIES) return undefined;
    for (let at = seen; at !== end; at = (at + 1) | 0) {
      const word = Atomics.load(this.#words, slotOf(at));
      const page = word & PAGE_MASK;
      // Its writer has taken the number but not written the entry, or somebody has written over it.
      if (word !== entry(page, at)) return undefined;
      visit(page);
    }
    return end;
  }
}

const slotOf = (at: number): number => 1 + (at & (ENTRIES - 1));
const entry = (page: number, at: number): number => page | (((at >>> 10) + 1) << PAGE_BITS);
