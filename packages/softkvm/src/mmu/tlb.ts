/**
 * The lookaside buffers that compiled code reads: see `Tlb` in cpu/layout.ts for their layout. This side fills and
 * flushes them, as quick-walk.ts does in WebAssembly. Which entries are in use is kept in a list, so that a flush costs what
 * was filled since the last one.
 *
 * Linear addresses are numbers as in walk.ts.
 */

import { State, Tlb, TlbList, Translated } from "../cpu/layout.ts";
import type { CpuState } from "../cpu/state.ts";
import { TranslatedPieces } from "./translated-pieces.ts";

const HIGH = 2 ** 32;
/** A table for each access kind of each bank. */
const TABLES = Tlb.banks * 2;
const WORDS = Tlb.entrySize / 4;
const { EMPTY, LISTED } = Tlb;
const { GLOBAL } = TlbList;

/** The tables of a bank, in the order in which they lie. */
export const TlbTable = { READ: 0, WRITE: 1 } as const;
export type TlbTable = (typeof TlbTable)[keyof typeof TlbTable];

/** Which translations were flushed: all, all but global ones, or those of the page at an address. */
export type Flushed = "all" | "non-global" | number;

export class LookasideBuffers {
  readonly #state: CpuState;
  /** The buffers as words, and as numbers: an entry's tag is its first two words, its addend the last two. */
  readonly #words: Int32Array;
  /** {@link TlbList}. */
  readonly #filled: Uint16Array;
  readonly #kinds: Uint8Array;
  readonly #large: TranslatedPieces;

  constructor(state: CpuState) {
    this.#state = state;
    const { buffer } = state.view;
    this.#words = new Int32Array(buffer, state.base + State.tlbs, (Tlb.banks * Tlb.bankSize) / 4);
    this.#filled = new Uint16Array(buffer, state.base + TlbList.filled, TlbList.slots);
    this.#kinds = new Uint8Array(buffer, state.base + TlbList.kinds, TlbList.slots);
    this.#large = new TranslatedPieces(state, Translated.large, Translated.largeShift);
    this.#clearAll();
  }

  get #filledCount(): number {
    return this.#state.get32(State.tlbFilled);
  }
  set #filledCount(count: number) {
    this.#state.set32(State.tlbFilled, count);
  }

  get #settledCount(): number {
    return this.#state.get32(State.tlbSettled);
  }
  set #settledCount(count: number) {
    this.#state.set32(State.tlbSettled, count);
  }

  /** Selects the bank that compiled code uses: writes its address to the state. */
  select(bank: number): void {
    this.#state.set32(State.tlb, this.#state.base + State.tlbs + bank * Tlb.bankSize);
  }
  get selected(): number {
    return (this.#state.get32(State.tlb) - this.#state.base - State.tlbs) / Tlb.bankSize;
  }

  /** Where a linear address lies in linear memory, or -1. */
  lookup(bank: number, table: TlbTable, va: number): number {
    const low = va | 0;
    const at = slotOf(bank, table, low) * WORDS;
    const words = this.#words;
    if (words[at] !== (low & ~0xfff) || words[at + 1] !== (Math.floor(va / HIGH) | 0)) return -1;
    return (low >>> 0) + (words[at + 2]! >>> 0) + words[at + 3]! * HIGH;
  }

  /** `linear` is where the page of `va` begins in linear memory. */
  fill(bank: number, table: TlbTable, va: number, linear: number, pageShift: number, global: boolean): void {
    const low = va | 0;
    if (pageShift > 12) this.#large.note(va, pageShift);
    const slot = slotOf(bank, table, low);
    const at = slot * WORDS;
    const words = this.#words;
    if ((words[at]! & (EMPTY | LISTED)) === EMPTY) this.#filled[this.#filledCount++] = slot;
    else if (!global) this.#settledCount = 0;
    this.#kinds[slot] = pageShift | (global ? GLOBAL : 0);
    const addend = linear - ((low & ~0xfff) >>> 0);
    words[at] = low & ~0xfff;
    words[at + 1] = Math.floor(va / HIGH);
    words[at + 2] = addend;
    words[at + 3] = Math.floor(addend / HIGH);
  }

  /** Everything, global pages too: CR0.PG, CR4.PGE/PAE/PSE/SMEP changes, INVPCID of all, a changed memory map. */
  flushAll(): void {
    const count = this.#filledCount;
    for (let index = 0; index < count; index++) this.#empty(this.#filled[index]!);
    this.#filledCount = 0;
    this.#settledCount = 0;
    this.#large.clear();
  }

  /**
   * All but global pages: a load of CR3. Systems do it all the time, in twos where they patch code, so that what was kept
   * once is not looked at again until one of these entries has got a page that is not global.
   */
  flushNonGlobal(): void {
    let kept = this.#settledCount;
    const count = this.#filledCount;
    for (let index = kept; index < count; index++) {
      const slot = this.#filled[index]!;
      if (this.#kinds[slot]! & GLOBAL) this.#filled[kept++] = slot;
      else this.#empty(slot);
    }
    this.#filledCount = kept;
    this.#settledCount = kept;
  }

  /** The page of an address, of whatever size, global or not: INVLPG. */
  flushPage(va: number): void {
    if (this.#large.mayHave(va)) {
      this.#flushLarge(va);
      return;
    }
    const low = va | 0;
    for (let table = 0; table < TABLES; table++) {
      const slot = table * Tlb.entries + ((low >>> 12) & (Tlb.entries - 1));
      const at = slot * WORDS;
      if (this.#words[at] === (low & ~0xfff) && this.#words[at + 1] === (Math.floor(va / HIGH) | 0)) {
        this.#words[at] = emptyTag(slot) | LISTED;
      }
    }
  }

  /** The same where the page may be a large one: each entry of it is one 4 KiB piece. */
  #flushLarge(va: number): void {
    const words = this.#words;
    const low = va | 0;
    const high = Math.floor(va / HIGH) | 0;
    const count = this.#filledCount;
    for (let index = 0; index < count; index++) {
      const slot = this.#filled[index]!;
      const at = slot * WORDS;
      // No page is larger than the low word tells.
      if (words[at + 1] !== high || (words[at]! ^ low) >>> (this.#kinds[slot]! & ~GLOBAL) !== 0) continue;
      words[at] = emptyTag(slot) | LISTED;
    }
  }

  /** All write entries: after dirty bits were taken, or pages were marked as code. */
  flushWrites(): void {
    this.#flushIf((slot) => ((slot / Tlb.entries) & 1) === TlbTable.WRITE);
  }

  /** Write entries that lead to the page at this place in linear memory: it holds code now, or its dirty bit was taken. */
  flushWritesTo(page: number): void {
    // Each page that code is decoded from comes by here. Linear memory is within 32 bits, so low words are enough.
    const words = this.#words;
    const low = page | 0;
    const count = this.#filledCount;
    for (let index = 0; index < count; index++) {
      const slot = this.#filled[index]!;
      const at = slot * WORDS;
      if (((words[at]! + words[at + 2]!) | 0) !== low || ((slot / Tlb.entries) & 1) !== TlbTable.WRITE) continue;
      if ((words[at]! & EMPTY) === 0) words[at] = emptyTag(slot) | LISTED;
    }
  }

  #flushIf(condition: (slot: number) => boolean): void {
    let kept = 0;
    const count = this.#filledCount;
    const settled = this.#settledCount;
    let stillSettled = settled;
    for (let index = 0; index < count; index++) {
      const slot = this.#filled[index]!;
      if (!condition(slot)) this.#filled[kept++] = slot;
      else {
        this.#empty(slot);
        if (index < settled) stillSettled--;
      }
    }
    this.#filledCount = kept;
    this.#settledCount = stillSettled;
  }

  #empty(slot: number): void {
    this.#words[slot * WORDS] = emptyTag(slot);
  }

  #clearAll(): void {
    for (let slot = 0; slot < TlbList.slots; slot++) this.#empty(slot);
  }
}

const emptyTag = (slot: number): number => (((slot % Tlb.entries) ^ 1) << 12) | EMPTY;

function slotOf(bank: number, table: number, low: number): number {
  return (bank * 2 + table) * Tlb.entries + ((low >>> 12) & (Tlb.entries - 1));
}
