/** A store in memory that remembers what was done to it, so that a power cut can be played at any moment. */

import type { Extent, Store } from "../src/index.ts";
import type { Random } from "./random.ts";

const SECTOR = 512;

type Change = { kind: "write"; offset: number; bytes: Uint8Array } | { kind: "resize"; sizeBytes: number };

/** A change that has only begun may be there already, and no flush makes it lasting. A flush that ended covers what had ended when it began. */
type Step = { at: number } & ((Change & { begun?: true }) | { kind: "flush"; covers: number });

/** Counts the steps of all stores that share it. */
export interface Clock {
  now: number;
}

export class JournalStore implements Store {
  readonly name = "journal";
  readonly readOnly = false;
  readonly journal: Step[] = [];
  readonly #clock: Clock;
  /** What it had before the journal. */
  #first = new Uint8Array(0);
  #bytes = new Uint8Array(0);
  #sizeBytes = 0;

  constructor(clock: Clock = { now: 0 }) {
    this.#clock = clock;
  }

  /** A store with this content, nothing of which can be taken back. */
  static of(bytes: Uint8Array, clock?: Clock): JournalStore {
    const store = new JournalStore(clock);
    store.#first = new Uint8Array(bytes);
    store.#bytes = store.#first.slice();
    store.#sizeBytes = bytes.length;
    return store;
  }

  get sizeBytes(): number {
    return this.#sizeBytes;
  }

  async read(offset: number, pieces: readonly Uint8Array[]): Promise<void> {
    for (const piece of pieces) {
      const there = this.#bytes.subarray(offset, Math.max(offset, Math.min(this.#sizeBytes, offset + piece.length)));
      piece.set(there);
      piece.fill(0, there.length);
      offset += piece.length;
    }
  }

  async write(offset: number, pieces: readonly Uint8Array[]): Promise<void> {
    const bytes = new Uint8Array(Buffer.concat(pieces));
    this.#put({ kind: "write", offset, bytes });
  }

  async writeZeroes(offset: number, length: number): Promise<void> {
    this.#put({ kind: "write", offset, bytes: new Uint8Array(length) });
  }

  async discard(offset: number, length: number): Promise<void> {
    // What is given up may be anything afterwards: the worst is what nobody expects.
    const bytes = new Uint8Array(Math.max(0, Math.min(length, this.#sizeBytes - offset))).fill(0xdd);
    this.#put({ kind: "write", offset, bytes });
  }

  async resize(sizeBytes: number): Promise<void> {
    this.#put({ kind: "resize", sizeBytes });
  }

  async flush(): Promise<void> {
    this.begin({ kind: "flush" })();
  }

  async status(offset: number, length: number): Promise<Extent> {
    return { length, zero: false, data: true, present: true, depth: 0, offset };
  }

  async close(): Promise<void> {}

  #put(change: Change): void {
    this.journal.push({ ...change, at: this.#clock.now++ });
    this.#apply(change);
  }

  /** Records what others begin to do; they call back when it has ended. */
  begin(what: Change | { kind: "flush" }): () => void {
    const covers = this.journal.length;
    if (what.kind === "flush") return () => void this.journal.push({ kind: "flush", covers, at: this.#clock.now++ });
    this.journal.push({ ...what, begun: true, at: this.#clock.now++ });
    return () => this.#put(what);
  }

  #apply(step: Change | Step): void {
    if (step.kind === "flush") return;
    const end = step.kind === "resize" ? step.sizeBytes : step.offset + step.bytes.length;
    if (end > this.#bytes.length) {
      const larger = new Uint8Array(Math.max(end, this.#bytes.length * 2));
      larger.set(this.#bytes);
      this.#bytes = larger;
    }
    if (step.kind === "write") {
      this.#bytes.set(step.bytes, step.offset);
      this.#sizeBytes = Math.max(this.#sizeBytes, end);
      return;
    }
    if (end < this.#sizeBytes) this.#bytes.fill(0, end, this.#sizeBytes);
    this.#sizeBytes = end;
  }

  /** What a `kill -9` after so many steps leaves: the kernel has them all. */
  killedAfter(steps: number): JournalStore {
    const left = JournalStore.of(this.#first);
    for (const step of this.journal.slice(0, steps)) left.#apply(step);
    return left;
  }

  /** What a power cut after so many steps leaves: all before the last flush, and any sectors of what came after it. */
  cutAfter(steps: number, random: Random): JournalStore {
    const done = this.journal.slice(0, steps);
    const last = done.findLast((step) => step.kind === "flush");
    const flushed = last?.kind === "flush" ? last.covers : 0;
    const left = JournalStore.of(this.#first);
    const share = random.pick([0.1, 0.5, 0.9]);
    for (const [index, step] of done.entries()) {
      if (step.kind === "flush") continue;
      if (index < flushed && !step.begun) {
        left.#apply(step);
        continue;
      }
      if (step.kind !== "write") {
        if (random.chance(share)) left.#apply(step);
        continue;
      }
      for (let at = 0; at < step.bytes.length; ) {
        const length = Math.min(step.bytes.length - at, SECTOR - ((step.offset + at) % SECTOR));
        const bytes = step.bytes.subarray(at, at + length);
        if (random.chance(share)) left.#apply({ kind: "write", offset: step.offset + at, bytes });
        at += length;
      }
    }
    return left;
  }

  /** The same at a moment of the clock. */
  cutAt(moment: number, random: Random): JournalStore {
    return this.cutAfter(this.journal.filter(({ at }) => at < moment).length, random);
  }

  /** A copy of what is in it. */
  content(): Uint8Array {
    return this.#bytes.slice(0, this.#sizeBytes);
  }
}
