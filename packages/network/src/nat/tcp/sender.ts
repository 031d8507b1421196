/**
 * The way to the guest of one connection: what is sent, acknowledged, lost, and how much more may be sent. It decides and
 * keeps count; the bytes are in the {@link SendQueue}. RFC 9293, 5681, 6582, 6675.
 */

import type { Range } from "../../packet/tcp.ts";
import { Congestion } from "./congestion.ts";
import { RoundTrip } from "./round-trip.ts";
import { Scoreboard } from "./scoreboard.ts";
import { SendQueue } from "./send-queue.ts";
import { distance, isBefore, later, plus } from "./sequence.ts";

/** On the way at most, whatever windows say: it is kept here until it is acknowledged. */
export const MOST_IN_FLIGHT = 1 << 20;
/** Later segments that arrive before an earlier one is taken for lost. */
const DUPLICATES = 3;

export interface Acknowledgement {
  readonly sequence: number;
  readonly acknowledgement: number;
  /** Scaled. */
  readonly window: number;
  readonly sack: readonly Range[];
  /** Nothing but an acknowledgement. */
  readonly bare: boolean;
}

export class Sender {
  readonly queue: SendQueue;
  readonly roundTrip = new RoundTrip();
  /** RFC 9293's SND.UNA and SND.NXT. */
  acknowledged: number;
  next: number;
  /** The largest segment's data. */
  readonly mss: number;
  readonly #congestion: Congestion;
  readonly #scoreboard = new Scoreboard();
  #window: number;
  /** The segment that last set the window (SND.WL1, SND.WL2). */
  #windowFrom: { sequence: number; acknowledgement: number };
  #duplicates = 0;
  /** While something is repaired: that is over when all is acknowledged that was sent when it began. */
  #repairUntil: number | undefined;
  /** What the guest does not have before this is lost, and was sent again before that. */
  #lostBefore: number;
  #resentBefore: number;

  constructor(first: number, mss: number, window: number, heard: { sequence: number; acknowledgement: number }) {
    this.acknowledged = first;
    this.next = first;
    this.queue = new SendQueue(first);
    this.mss = mss;
    this.#window = window;
    this.#windowFrom = heard;
    this.#congestion = new Congestion(mss, 2 * MOST_IN_FLIGHT);
    this.#lostBefore = first;
    this.#resentBefore = first;
  }

  get inFlight(): number {
    return distance(this.acknowledged, this.next);
  }

  get window(): number {
    return this.#window;
  }

  /**
   * The number of a segment without data: what comes next, or the end of the window where the guest has taken some of it
   * back. Beyond that it would not look at the acknowledgement, and two ends that both wait for one would wait for ever.
   */
  get acceptable(): number {
    const end = plus(this.acknowledged, this.#window);
    return isBefore(end, this.next) ? end : this.next;
  }

  get isRepairing(): boolean {
    return this.#repairUntil !== undefined;
  }

  /** RFC 6675's pipe: what is on the wire as far as can be known. */
  get #pipe(): number {
    const { acknowledged, next } = this;
    if (this.#scoreboard.isEmpty && this.#repairUntil === undefined) return distance(acknowledged, next);
    return (
      this.#scoreboard.missing(acknowledged, this.#resentBefore) +
      this.#scoreboard.missing(later(this.#lostBefore, this.#resentBefore), next)
    );
  }

  /** Bytes that may be sent now that never were. */
  get room(): number {
    const byWindow = this.#window - this.inFlight;
    const byCongestion = this.#congestion.window - this.#pipe;
    return Math.floor(Math.min(byWindow, byCongestion, MOST_IN_FLIGHT - this.inFlight));
  }

  sent(bytes: number, now: number): void {
    this.next = plus(this.next, bytes);
    this.roundTrip.sent(this.next, now);
  }

  /** Takes an acknowledgement that is not of the future. True if it acknowledged something new. */
  heard(ack: Acknowledgement, now: number): boolean {
    const newly = distance(this.acknowledged, ack.acknowledgement);
    const windowMoved = this.#updateWindow(ack);
    if (newly > 0) this.#advance(ack.acknowledgement, newly, now);
    const news = this.#scoreboard.add(ack.sack, this.acknowledged, this.next);
    if (newly <= 0 && this.inFlight > 0 && ((ack.bare && !windowMoved) || news)) this.#duplicates += 1;
    this.#look();
    return newly > 0;
  }

  #updateWindow({ sequence, acknowledgement, window }: Acknowledgement): boolean {
    const last = this.#windowFrom;
    const isNewer =
      isBefore(last.sequence, sequence) ||
      (last.sequence === sequence && !isBefore(acknowledgement, last.acknowledgement));
    if (!isNewer) return false;
    this.#windowFrom = { sequence, acknowledgement };
    const moved = this.#window !== window;
    this.#window = window;
    return moved;
  }

  #advance(acknowledgement: number, newly: number, now: number): void {
    this.acknowledged = acknowledgement;
    this.queue.release(acknowledgement);
    this.#scoreboard.advance(acknowledgement);
    this.roundTrip.acknowledged(acknowledgement, now);
    this.#duplicates = 0;
    this.#resentBefore = later(this.#resentBefore, acknowledgement);
    this.#lostBefore = later(this.#lostBefore, acknowledgement);
    if (this.#repairUntil !== undefined) {
      if (!isBefore(acknowledgement, this.#repairUntil)) this.#repairUntil = undefined;
      // A part of it (RFC 6582): what follows was lost, too, even if nobody says so.
      else this.#lostBefore = later(this.#lostBefore, plus(acknowledgement, Math.min(this.mss, this.inFlight)));
    }
    if (this.#repairUntil === undefined || this.#expiredLast) this.#congestion.acknowledged(newly);
    if (this.#repairUntil === undefined) this.#expiredLast = false;
  }

  /** The repair began with a timeout, so it starts slowly. */
  #expiredLast = false;

  /** Whether what the guest has shows that something before it is lost. */
  #look(): void {
    const end = this.#scoreboard.end;
    if (this.#repairUntil === undefined) {
      const lost = this.#duplicates >= DUPLICATES || this.#scoreboard.bytes >= DUPLICATES * this.mss;
      if (!lost || this.inFlight === 0) return;
      this.#congestion.lost(this.inFlight);
      this.#repairUntil = this.next;
      this.#resentBefore = this.acknowledged;
      this.#lostBefore = plus(this.acknowledged, Math.min(this.mss, this.inFlight));
    }
    if (end !== undefined) this.#lostBefore = later(this.#lostBefore, end);
  }

  /** What to send again now, if anything; {@link resent} says how much of it was. */
  get toResend(): Range | undefined {
    if (this.#repairUntil === undefined) return undefined;
    const gap = this.#scoreboard.firstGap(later(this.#resentBefore, this.acknowledged), this.#lostBefore);
    if (gap === undefined) return undefined;
    // The first is due whatever is on the way.
    const isFirst = this.#resentBefore === this.acknowledged;
    return isFirst || this.#congestion.window - this.#pipe >= Math.min(this.mss, distance(gap.from, gap.to))
      ? gap
      : undefined;
  }

  resent(upTo: number): void {
    this.#resentBefore = later(this.#resentBefore, upTo);
    this.roundTrip.resent();
  }

  /** Nothing was heard in time: all that is on the way is lost, as far as is known. */
  expired(): void {
    // Who heard nothing twice does not trust what it heard before (RFC 2018, 8).
    if (this.roundTrip.backoff > 0) this.#scoreboard.clear();
    if (this.roundTrip.backoff === 0 || !this.#expiredLast) this.#congestion.expired(this.inFlight);
    this.roundTrip.expired();
    this.#repairUntil = this.next;
    this.#expiredLast = true;
    this.#lostBefore = this.next;
    this.#resentBefore = this.acknowledged;
    this.#duplicates = 0;
  }
}
