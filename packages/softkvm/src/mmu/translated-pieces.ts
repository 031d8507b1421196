/**
 * `Translated` of cpu/layout.ts from the side that mostly fills it. It says of too many pieces that they have something, of
 * none too few, and forgets all at once.
 *
 * Linear addresses are numbers as in walk.ts.
 */

import { Translated } from "../cpu/layout.ts";
import type { CpuState } from "../cpu/state.ts";

export class TranslatedPieces {
  readonly #bytes: Uint8Array;
  readonly #shift: number;
  readonly #size: number;

  /** `at`, `shift`: where the bytes are in the state, and which bits of an address choose one. */
  constructor(state: CpuState, at: number, shift: number) {
    this.#bytes = new Uint8Array(state.view.buffer, state.base + at, Translated.entries);
    this.#shift = shift;
    this.#size = 2 ** shift;
    this.clear();
  }

  /** Something is known of the page of an address, whose size is 2 to the power of `pageShift`. */
  note(va: number, pageShift: number): void {
    const pieces = 1 << Math.max(0, pageShift - this.#shift);
    const first = this.#pieceOf(va) & -pieces;
    this.#bytes.fill(1, first, first + pieces);
  }

  /** Whether that may be so of the page that an address is in. */
  mayHave(va: number): boolean {
    return this.#bytes[this.#pieceOf(va)] !== 0;
  }

  clear(): void {
    this.#bytes.fill(0);
  }

  #pieceOf(va: number): number {
    return Math.floor(va / this.#size) & (Translated.entries - 1);
  }
}
