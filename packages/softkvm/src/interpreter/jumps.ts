/**
 * The jump cache from the side that fills and empties it; see `JumpCache` in handlers.ts for what compiled code reads.
 * An entry stands for a translation of its address: it goes when that goes, so that it outlives loads of CR3 where its
 * page is global (Intel SDM vol. 3, 4.10.4).
 *
 * Addresses are numbers as in mmu/walk.ts.
 */

import { Mode, State, Translated } from "../cpu/layout.ts";
import type { CpuState } from "../cpu/state.ts";
import { TranslatedPieces } from "../mmu/translated-pieces.ts";
import { JumpCache, SPACE } from "./handlers.ts";
import { CODE_LIMITS } from "./limits.ts";

const HIGH = 2 ** 32;
const EMPTY_LOW = Number(JumpCache.empty & 0xffffffffn);
const EMPTY_HIGH = Number(JumpCache.empty >> 32n);

/** The last number of an address space, in its place; it stays a positive number. */
const LAST_SPACE = 0x7ffff * SPACE;

/** What an entry's kind has beside its page's size, as the power of 2. */
const GLOBAL = 0x80;

/** How an address was translated: `Walker`. */
export interface Translation {
  readonly pageShift: number;
  readonly global: boolean;
}

export class Jumps {
  readonly #state: CpuState;
  readonly #view: DataView;
  readonly #at: number;
  /** The entries in use: kernels load CR3 often, and most of what is here is global. */
  readonly #global = new EntryList();
  readonly #other = new EntryList();
  /** By entry: how its page was translated; 0 when it is not in use. */
  readonly #kinds = new Uint8Array(JumpCache.entries);
  /** By entry: its linear address. */
  readonly #linear = new Float64Array(JumpCache.entries);
  /** The pages that entries have been filled from since all were emptied: see {@link pageKey}. */
  readonly #pages = new Set<number>();
  /** The same for INVLPG, those of 4 KiB and larger ones. */
  readonly #small: TranslatedPieces;
  readonly #large: TranslatedPieces;

  constructor(state: CpuState) {
    this.#state = state;
    this.#view = state.view;
    this.#small = new TranslatedPieces(state, Translated.code, Translated.codeShift);
    this.#large = new TranslatedPieces(state, Translated.large, Translated.largeShift);
    this.#at = state.base + JumpCache.offset;
    for (let entry = 0; entry < JumpCache.entries; entry++) this.#empty(entry);
    this.#wipeUser();
  }

  /** How many pages are remembered, at most `CODE_LIMITS.jumpPages`. */
  get pages(): number {
    return this.#pages.size;
  }

  /** From now on a jump to `rip`, which is at `linear`, goes to a record. */
  set(rip: number, linear: number, { pageShift, global }: Translation, mode: number, record: number): void {
    (pageShift === 12 ? this.#small : this.#large).note(linear, pageShift);
    if (mode & Mode.USER) {
      this.#setUser(rip, mode, record);
      return;
    }
    if (this.#pages.size >= CODE_LIMITS.jumpPages) this.forgetAll();
    this.#pages.add(pageKey(linear, pageShift));
    const low = rip | 0;
    const high = Math.floor(rip / HIGH) | 0;
    const entry = firstEntry(low);
    if (this.#kinds[entry] !== 0 && this.#word(entry, JumpCache.rip) !== low) this.#driveAway(entry);
    this.#fill(entry, pageShift | (global ? GLOBAL : 0), linear, [low, high, mode, record]);
  }

  /** Of ring 3, whose entries are in no list, as compiled code makes such ones too: see `fillJump` in handlers.ts. */
  #setUser(rip: number, mode: number, record: number): void {
    const low = rip | 0;
    const tag = mode | this.#state.get32(State.space);
    const [first, second] = [firstHash, secondHash].map(
      (hash) => this.#state.base + JumpCache.ring3 + (hash(low) & (JumpCache.ring3Entries - 1)) * JumpCache.entrySize,
    ) as [number, number];
    const isOthers = this.#view.getInt32(first + JumpCache.mode, true) === tag && !this.#isOf(first, rip);
    this.#write(isOthers ? second : first, [low, Math.floor(rip / HIGH) | 0, tag, record]);
  }

  #isOf(at: number, rip: number): boolean {
    const { rip: field } = JumpCache;
    return (
      this.#view.getInt32(at + field, true) === (rip | 0) &&
      this.#view.getInt32(at + field + 4, true) === (Math.floor(rip / HIGH) | 0)
    );
  }

  /** All of ring 3 is of another address space from now on. */
  #forgetUser(): void {
    const space = this.#state.get32(State.space) + SPACE;
    // At the numbers' end what is there might be met again.
    if (space > LAST_SPACE) this.#wipeUser();
    this.#state.set32(State.space, space > LAST_SPACE ? 0 : space);
  }

  #wipeUser(): void {
    const at = this.#state.base + JumpCache.ring3;
    for (let entry = 0; entry < JumpCache.ring3Entries; entry++) this.#clear(at + entry * JumpCache.entrySize);
  }

  /** What is in its first place goes to its second. */
  #driveAway(entry: number): void {
    const { rip, mode, record } = JumpCache;
    const low = this.#word(entry, rip);
    const words: Words = [low, this.#word(entry, rip + 4), this.#word(entry, mode), this.#word(entry, record)];
    if (firstEntry(low) === entry) this.#fill(secondEntry(low), this.#kinds[entry]!, this.#linear[entry]!, words);
  }

  #fill(entry: number, kind: number, linear: number, words: Words): void {
    (kind & GLOBAL ? this.#global : this.#other).add(entry);
    this.#kinds[entry] = kind;
    this.#linear[entry] = linear;
    this.#write(this.#at + entry * JumpCache.entrySize, words);
  }

  #write(at: number, words: Words): void {
    for (let index = 0; index < words.length; index++) this.#view.setInt32(at + index * 4, words[index]!, true);
  }

  #word(entry: number, offset: number): number {
    return this.#view.getInt32(this.#at + entry * JumpCache.entrySize + offset, true);
  }

  forgetAll(): void {
    this.#forgetUser();
    this.#global.takeIf((entry) => this.#empty(entry));
    this.#other.takeIf((entry) => this.#empty(entry));
    this.#pages.clear();
    // Larger pages may be in the lookaside buffers still.
    this.#small.clear();
  }

  /** A load of CR3. */
  forgetNonGlobal(): void {
    this.#forgetUser();
    // One that has become global since is listed there.
    this.#other.takeIf((entry) => (this.#kinds[entry]! & GLOBAL) !== 0 || this.#empty(entry));
  }

  /** INVLPG. */
  forgetPage(va: number): void {
    if (this.#small.mayHave(va) || this.#large.mayHave(va)) this.#forgetUser();
    if (!PAGE_SHIFTS.some((shift) => this.#pages.delete(pageKey(va, shift)))) return;
    const forget = (entry: number): boolean => {
      const size = 1 << (this.#kinds[entry]! & ~GLOBAL);
      return Math.floor(this.#linear[entry]! / size) === Math.floor(va / size) && this.#empty(entry);
    };
    this.#global.takeIf(forget);
    this.#other.takeIf(forget);
  }

  #empty(entry: number): true {
    this.#kinds[entry] = 0;
    this.#clear(this.#at + entry * JumpCache.entrySize);
    return true;
  }

  /** No code has the address that is here from now on, nor an address space the mode. */
  #clear(at: number): void {
    this.#write(at, [EMPTY_LOW, EMPTY_HIGH, 0, 0]);
  }
}

/** An entry: an address's low half and high half, mode, record. */
type Words = readonly [low: number, high: number, mode: number, record: number];

/** As in handlers.ts. */
const firstHash = (low: number): number => low ^ (low >>> JumpCache.shift);
const secondHash = (low: number): number => (low >>> JumpCache.secondShift) ^ Math.imul(low, JumpCache.secondFactor);
const firstEntry = (low: number): number => firstHash(low) & (JumpCache.entries - 1);
const secondEntry = (low: number): number => secondHash(low) & (JumpCache.entries - 1);

/** Entries, each once. What was emptied or became another kind may still be listed. */
class EntryList {
  readonly #entries = new Uint16Array(JumpCache.entries);
  readonly #isListed = new Uint8Array(JumpCache.entries);
  #count = 0;

  add(entry: number): void {
    if (this.#isListed[entry] !== 0) return;
    this.#isListed[entry] = 1;
    this.#entries[this.#count++] = entry;
  }

  /** Takes those off the list for which `take` says so. */
  takeIf(take: (entry: number) => boolean): void {
    let kept = 0;
    for (let index = 0; index < this.#count; index++) {
      const entry = this.#entries[index]!;
      if (take(entry)) this.#isListed[entry] = 0;
      else this.#entries[kept++] = entry;
    }
    this.#count = kept;
  }
}

const PAGE_SHIFTS = [12, 21, 22, 30] as const;

/** A number for the page of some size that an address is in. */
function pageKey(va: number, shift: number): number {
  return Math.floor(va / (1 << shift)) * 64 + shift;
}
