/**
 * The jump cache from the side that fills and empties it; see `JumpCache` in handlers.ts for what compiled code reads.
 * An entry stands for a translation of its address: it goes when that goes, so that it outlives loads of CR3 where its
 * page is global (Intel SDM vol. 3, 4.10.4).
 *
 * Addresses are numbers as in mmu/walk.ts.
 */

import { Translated } from "../cpu/layout.ts";
import type { CpuState } from "../cpu/state.ts";
import { TranslatedPieces } from "../mmu/translated-pieces.ts";
import { JumpCache } from "./handlers.ts";
import { CODE_LIMITS } from "./limits.ts";

const HIGH = 2 ** 32;
const EMPTY_LOW = Number(JumpCache.empty & 0xffffffffn);
const EMPTY_HIGH = Number(JumpCache.empty >> 32n);

/** What an entry's kind has beside its page's size, as the power of 2. */
const GLOBAL = 0x80;

/** How an address was translated: `Walker`. */
export interface Translation {
  readonly pageShift: number;
  readonly global: boolean;
}

export class Jumps {
  readonly #view: DataView;
  readonly #at: number;
  /** The entries in use, each once. */
  readonly #filled = new Uint16Array(JumpCache.entries);
  #filledCount = 0;
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
    this.#view = state.view;
    this.#small = new TranslatedPieces(state, Translated.code, Translated.codeShift);
    this.#large = new TranslatedPieces(state, Translated.large, Translated.largeShift);
    this.#at = state.base + JumpCache.offset;
    for (let entry = 0; entry < JumpCache.entries; entry++) this.#empty(entry);
  }

  /** How many pages are remembered, at most `CODE_LIMITS.jumpPages`. */
  get pages(): number {
    return this.#pages.size;
  }

  /** From now on a jump to `rip`, which is at `linear`, goes to a record. */
  set(rip: number, linear: number, { pageShift, global }: Translation, mode: number, record: number): void {
    if (this.#pages.size >= CODE_LIMITS.jumpPages) this.forgetAll();
    const low = rip | 0;
    const entry = (low ^ (low >>> 12)) & (JumpCache.entries - 1);
    if (this.#kinds[entry] === 0) this.#filled[this.#filledCount++] = entry;
    this.#kinds[entry] = pageShift | (global ? GLOBAL : 0);
    this.#linear[entry] = linear;
    this.#pages.add(pageKey(linear, pageShift));
    (pageShift === 12 ? this.#small : this.#large).note(linear, pageShift);
    const at = this.#at + entry * JumpCache.entrySize;
    this.#view.setUint32(at + JumpCache.rip, low, true);
    this.#view.setUint32(at + JumpCache.rip + 4, Math.floor(rip / HIGH), true);
    this.#view.setUint32(at + JumpCache.mode, mode, true);
    this.#view.setUint32(at + JumpCache.record, record, true);
  }

  forgetAll(): void {
    for (let index = 0; index < this.#filledCount; index++) this.#empty(this.#filled[index]!);
    this.#filledCount = 0;
    this.#pages.clear();
    // Larger pages may be in the lookaside buffers still.
    this.#small.clear();
  }

  /** A load of CR3. */
  forgetNonGlobal(): void {
    let kept = 0;
    for (let index = 0; index < this.#filledCount; index++) {
      const entry = this.#filled[index]!;
      if (this.#kinds[entry]! & GLOBAL) this.#filled[kept++] = entry;
      else this.#empty(entry);
    }
    this.#filledCount = kept;
  }

  /** INVLPG. */
  forgetPage(va: number): void {
    if (!PAGE_SHIFTS.some((shift) => this.#pages.delete(pageKey(va, shift)))) return;
    let kept = 0;
    for (let index = 0; index < this.#filledCount; index++) {
      const entry = this.#filled[index]!;
      const size = 2 ** (this.#kinds[entry]! & ~GLOBAL);
      if (Math.floor(this.#linear[entry]! / size) === Math.floor(va / size)) this.#empty(entry);
      else this.#filled[kept++] = entry;
    }
    this.#filledCount = kept;
  }

  #empty(entry: number): void {
    this.#kinds[entry] = 0;
    const at = this.#at + entry * JumpCache.entrySize;
    this.#view.setUint32(at + JumpCache.rip, EMPTY_LOW, true);
    this.#view.setUint32(at + JumpCache.rip + 4, EMPTY_HIGH, true);
  }
}

const PAGE_SHIFTS = [12, 21, 22, 30] as const;

/** A number for the page of some size that an address is in. */
function pageKey(va: number, shift: number): number {
  return Math.floor(va / 2 ** shift) * 64 + shift;
}
