/**
 * Pages that were made code of lately, while other vCPUs may still have lookaside entries by which they write there without
 * anybody's notice. When all others have looked around, and so have lost those, the pages have to be as they were when the
 * first of their bytes was decoded; else what was made of them is forgotten. So what another vCPU wrote meanwhile is seen
 * within its budget and this one's.
 */

const WORDS = 1024;

/** So many pages wait to be confirmed; beyond that all code is forgotten instead. */
const MOST = 4096;

export class UnconfirmedCode {
  readonly #words: Int32Array;
  readonly #changed: (page: number | "any") => void;
  /** Hashes by pages (places in linear memory): since the others were asked last, and before. */
  #fresh = new Map<number, number>();
  #asked = new Map<number, number>();
  #haveLooked: () => boolean = () => true;

  /** `words`: linear memory. `changed`: what a page holds is not what was decoded; "any": that of some page, maybe. */
  constructor(words: Int32Array, changed: (page: number | "any") => void) {
    this.#words = words;
    this.#changed = changed;
  }

  get isEmpty(): boolean {
    return this.#fresh.size === 0 && this.#asked.size === 0;
  }

  /** A page is about to be decoded from; it is marked already. */
  add(page: number): void {
    if (this.#fresh.size < MOST) this.#fresh.set(page, this.#hash(page));
    else this.#fresh.set(-1, 0);
  }

  /** Looks at what can be confirmed. `ask`: asks the others to look, and returns what says whether they have. */
  confirm(ask: () => () => boolean): void {
    if (this.#asked.size > 0) {
      if (!this.#haveLooked()) return;
      if (this.#asked.has(-1)) this.#changed("any");
      else for (const [page, hash] of this.#asked) if (this.#hash(page) !== hash) this.#changed(page);
    }
    this.#asked = this.#fresh;
    this.#fresh = new Map();
    if (this.#asked.size > 0) this.#haveLooked = ask();
  }

  #hash(page: number): number {
    const first = page / 4;
    let hash = 0;
    for (let at = first; at < first + WORDS; at++) hash = (Math.imul(hash, 0x9e3779b1) + this.#words[at]!) | 0;
    return hash;
  }
}
