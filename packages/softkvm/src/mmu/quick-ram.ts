/**
 * Pieces of guest physical memory that are nothing special, without a dirty log and for writing, as quick-walk.ts finds
 * them in the state. They are as good as an entry of the lookaside buffers, and forgotten when those are for a changed map.
 */

import { Ram, State } from "../cpu/layout.ts";
import type { CpuState } from "../cpu/state.ts";
import type { Piece } from "./memory-map.ts";

export class QuickRam {
  readonly #view: DataView;
  readonly #at: number;
  readonly #known: (Piece | undefined)[] = [];
  #next = 0;

  constructor(state: CpuState) {
    this.#view = state.view;
    this.#at = state.base + State.ram;
    this.clear();
  }

  /** `except`: a page that is not memory although it may lie in the piece. */
  add(piece: Piece, except: number): void {
    if (this.#known.includes(piece) || (except >= piece.start && except < piece.end)) return;
    this.#set(this.#next, piece.start, piece.end - piece.start, piece.delta);
    this.#known[this.#next] = piece;
    this.#next = (this.#next + 1) % Ram.pieces;
  }

  clear(): void {
    for (let index = 0; index < Ram.pieces; index++) this.#set(index, 0, 0, 0);
    this.#known.length = 0;
    this.#next = 0;
  }

  #set(index: number, start: number, length: number, delta: number): void {
    const at = this.#at + index * Ram.size;
    this.#view.setBigInt64(at + Ram.start, BigInt(start), true);
    this.#view.setBigInt64(at + Ram.length, BigInt(length), true);
    this.#view.setBigInt64(at + Ram.delta, BigInt(delta), true);
  }
}
