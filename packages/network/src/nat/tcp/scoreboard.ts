/** What the guest has of that which was sent, beyond what it acknowledged (RFC 2018, RFC 6675). */

import type { Range } from "../../packet/tcp.ts";
import { distance, earlier, isBefore, later } from "./sequence.ts";

/** Ranges that are remembered; a guest that tells of more has gaps filled that it does not have. */
const MOST_RANGES = 256;

export class Scoreboard {
  /** Apart from each other, in order, all beyond what is acknowledged. */
  #ranges: Range[] = [];

  get isEmpty(): boolean {
    return this.#ranges.length === 0;
  }

  /** Where the last of them ends. */
  get end(): number | undefined {
    return this.#ranges.at(-1)?.to;
  }

  get bytes(): number {
    let sum = 0;
    for (const { from, to } of this.#ranges) sum += distance(from, to);
    return sum;
  }

  /** Takes what an acknowledgement told; what cannot be, outside of what is on the way, is left out. True if it is news. */
  add(blocks: readonly Range[], acknowledged: number, sent: number): boolean {
    const before = this.bytes;
    for (const { from, to } of blocks) {
      if (!isBefore(from, to) || isBefore(sent, to) || !isBefore(acknowledged, to)) continue;
      this.#insert({ from: later(from, acknowledged), to });
    }
    return this.bytes !== before;
  }

  #insert(block: Range): void {
    let { from, to } = block;
    const apart: Range[] = [];
    for (const range of this.#ranges) {
      if (isBefore(range.to, from) || isBefore(to, range.from)) {
        apart.push(range);
      } else {
        from = earlier(from, range.from);
        to = later(to, range.to);
      }
    }
    if (apart.length >= MOST_RANGES) return;
    const at = apart.findIndex((range) => isBefore(to, range.from));
    apart.splice(at < 0 ? apart.length : at, 0, { from, to });
    this.#ranges = apart;
  }

  /** All up to here is acknowledged. */
  advance(acknowledged: number): void {
    if (this.#ranges.length === 0) return;
    this.#ranges = this.#ranges
      .filter(({ to }) => isBefore(acknowledged, to))
      .map(({ from, to }) => ({ from: later(from, acknowledged), to }));
  }

  clear(): void {
    this.#ranges = [];
  }

  /** How much of a part the guest does not have. */
  missing(from: number, to: number): number {
    if (!isBefore(from, to)) return 0;
    let bytes = distance(from, to);
    for (const range of this.#ranges) {
      const overlap = distance(later(from, range.from), earlier(to, range.to));
      if (overlap > 0) bytes -= overlap;
    }
    return bytes;
  }

  /** The first piece of a part that the guest does not have. */
  firstGap(from: number, to: number): Range | undefined {
    let start = from;
    for (const range of this.#ranges) {
      if (isBefore(start, range.from)) break;
      if (isBefore(start, range.to)) start = range.to;
    }
    if (!isBefore(start, to)) return undefined;
    const next = this.#ranges.find((range) => isBefore(start, range.from));
    return { from: start, to: next === undefined ? to : earlier(to, next.from) };
  }
}
