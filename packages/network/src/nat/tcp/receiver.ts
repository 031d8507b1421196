/** The way from the guest of one connection: what arrived, in order and out of it, and how much more may come. */

import type { Range } from "../../packet/tcp.ts";
import { distance, isBefore, later, plus } from "./sequence.ts";

/** Pieces that are kept out of order at most; more are as good as lost. */
const MOST_PIECES = 128;

interface Piece extends Range {
  readonly data: Uint8Array;
}

export class Receiver {
  /** RFC 9293's RCV.NXT. */
  next: number;
  /** Where what may come ends; it never moves back. */
  edge: number;
  #pieces: Piece[] = [];
  /** What the last piece out of order belongs to is told first (RFC 2018, 4). */
  #latest: number | undefined;

  constructor(first: number) {
    this.next = first;
    this.edge = first;
  }

  /** Out of order. */
  get heldBytes(): number {
    return this.#pieces.reduce((sum, { data }) => sum + data.length, 0);
  }

  /** The window, once so many bytes more than now are promised. */
  offer(bytes: number): number {
    this.edge = later(this.edge, plus(this.next, bytes));
    return distance(this.next, this.edge);
  }

  /**
   * Takes a segment's data and passes on what is in order now, by way of views that are good until it returns. True when
   * nothing was missing before it.
   */
  take(sequence: number, data: Uint8Array, pass: (data: Uint8Array) => void): boolean {
    const skip = distance(sequence, this.next);
    const room = distance(sequence, this.edge);
    const [from, to] = [Math.max(skip, 0), Math.min(data.length, room)];
    if (from >= to) return false;
    const useful = data.subarray(from, to);
    if (skip < 0) {
      this.#keep(sequence, useful);
      return false;
    }
    this.next = plus(this.next, useful.length);
    pass(useful);
    if (this.#pieces.length === 0) return true;
    this.#drain(pass);
    return false;
  }

  #drain(pass: (data: Uint8Array) => void): void {
    let gone = 0;
    for (const { from, to, data } of this.#pieces) {
      if (isBefore(this.next, from)) break;
      gone += 1;
      if (!isBefore(this.next, to)) continue;
      const rest = data.subarray(distance(from, this.next));
      this.next = to;
      pass(rest);
    }
    this.#pieces.splice(0, gone);
  }

  /** Keeps a copy of what is new in it. */
  #keep(sequence: number, data: Uint8Array): void {
    this.#latest = sequence;
    let from = sequence;
    const end = plus(sequence, data.length);
    const added: Piece[] = [];
    const add = (to: number) => {
      if (!isBefore(from, to)) return;
      const start = distance(sequence, from);
      added.push({ from, to, data: data.slice(start, distance(sequence, to)) });
    };
    for (const piece of this.#pieces) {
      if (!isBefore(from, piece.to)) continue;
      if (!isBefore(piece.from, end)) break;
      add(piece.from);
      from = later(from, piece.to);
    }
    add(end);
    if (this.#pieces.length + added.length > MOST_PIECES) return;
    this.#pieces = [...this.#pieces, ...added].sort((a, b) => distance(b.from, a.from));
  }

  /** What arrived out of order, as the options tell it. */
  get ranges(): readonly Range[] {
    if (this.#pieces.length === 0) return [];
    const ranges: Range[] = [];
    for (const { from, to } of this.#pieces) {
      const last = ranges.at(-1);
      if (last?.to === from) ranges[ranges.length - 1] = { from: last.from, to };
      else ranges.push({ from, to });
    }
    const latest = this.#latest;
    const first = ranges.findIndex(
      ({ from, to }) => latest !== undefined && !isBefore(latest, from) && isBefore(latest, to),
    );
    if (first > 0) ranges.unshift(...ranges.splice(first, 1));
    return ranges;
  }

  clear(): void {
    this.#pieces = [];
  }
}
