/**
 * Limits of a card, each direction for itself. What the guest sends too fast waits here, up to a bound, and is lost beyond it, as
 * at any slow link; what comes for it waits where it is.
 */

import { Bucket } from "../bucket.ts";
import { type Clock, systemClock } from "../clock.ts";
import type { GuestSide, Offload, PacketPort } from "../port.ts";
import { PortAround } from "../port-around.ts";

/** Bytes a second, and at once. */
export interface Rate {
  /** In the long run. */
  readonly average: number;
  /** At most, while a burst lasts. Default: no bound. */
  readonly peak?: number;
  /** How much may go beyond the average after a quiet time. Default: a tenth of a second's. */
  readonly burst?: number;
}

export interface CardLimits {
  /** What the guest gets. */
  readonly inbound?: Rate;
  /** What it sends. */
  readonly outbound?: Rate;
}

/** A frame that is cut only later is as long as this; a bucket that holds less lets one through at a time anyway. */
const LONGEST = 65536;
/** What waits of the guest's: a second's worth, within these bounds. */
const LEAST_WAITING = 4 * LONGEST;
const MOST_WAITING = 4 << 20;

/** Both bounds of a rate. */
class Gate {
  readonly #average: Bucket;
  readonly #peak: Bucket | undefined;
  readonly #clock: Clock;

  constructor({ average, peak, burst = average / 10 }: Rate, clock: Clock) {
    this.#clock = clock;
    const now = clock.now();
    this.#average = new Bucket(average, burst, now);
    // A hundredth of a second's at once: timers are no finer where there is much to do.
    this.#peak = peak === undefined ? undefined : new Bucket(peak, Math.min(peak / 100, LONGEST), now);
  }

  /** 0: so many pass, and are counted. Otherwise, how long they have to wait. */
  pass(bytes: number): number {
    const now = this.#clock.now();
    const wait = Math.max(this.#average.waitMs(bytes, now), this.#peak?.waitMs(bytes, now) ?? 0);
    if (wait > 0) return wait;
    this.#average.spend(bytes);
    this.#peak?.spend(bytes);
    return 0;
  }
}

export class LimitPort extends PortAround implements Disposable {
  readonly #clock: Clock;
  #inbound: Gate | undefined;
  #outbound: Gate | undefined;
  #mostWaiting = LEAST_WAITING;
  #waiting: { frame: Uint8Array; offload: Offload | undefined; queue: number | undefined }[] = [];
  #waitingBytes = 0;
  #sending: Disposable | undefined;
  #receiving: Disposable | undefined;
  /** Frames of the guest's that it sent too fast. */
  lost = 0;

  constructor(inner: PacketPort, limits: CardLimits, clock: Clock = systemClock) {
    super(inner);
    this.#clock = clock;
    this.limit(limits);
  }

  /** Other limits from now on, for what waits too. */
  limit({ inbound, outbound }: CardLimits): void {
    this.#inbound = inbound && new Gate(inbound, this.#clock);
    this.#outbound = outbound && new Gate(outbound, this.#clock);
    this.#mostWaiting = Math.min(Math.max(outbound?.average ?? 0, LEAST_WAITING), MOST_WAITING);
    this.#send();
    if (this.#receiving !== undefined) this.#receiveAgain();
  }

  transmit(frame: Uint8Array, offload?: Offload, queue?: number): void {
    if (this.#waiting.length === 0 && (this.#outbound?.pass(frame.length) ?? 0) === 0) {
      this.inner.transmit(frame, offload, queue);
    } else if (this.#waitingBytes + frame.length > this.#mostWaiting) this.lost += 1;
    else {
      this.#waiting.push({ frame: frame.slice(), offload, queue });
      this.#waitingBytes += frame.length;
      if (this.#sending === undefined) this.#send();
    }
  }

  #send(): void {
    this.#sending?.[Symbol.dispose]();
    this.#sending = undefined;
    let done = 0;
    for (const { frame, offload, queue } of this.#waiting) {
      const wait = this.#outbound?.pass(frame.length) ?? 0;
      if (wait > 0) {
        this.#sending = this.#clock.after(Math.ceil(wait), () => this.#send());
        break;
      }
      done += 1;
      this.#waitingBytes -= frame.length;
      this.inner.transmit(frame, offload, queue);
    }
    this.#waiting = this.#waiting.slice(done);
  }

  protected receive(guest: GuestSide, frame: Uint8Array, offload?: Offload, queue?: number): boolean {
    if (this.#receiving !== undefined) return false;
    const wait = this.#inbound?.pass(frame.length) ?? 0;
    if (wait === 0) return guest.receive(frame, offload, queue);
    this.#receiving = this.#clock.after(Math.ceil(wait), () => this.#receiveAgain());
    return false;
  }

  #receiveAgain(): void {
    this.#receiving?.[Symbol.dispose]();
    this.#receiving = undefined;
    this.inner.room?.();
  }

  override room(): void {
    if (this.#receiving === undefined) super.room();
  }

  override reset(): void {
    this.#waiting = [];
    this.#waitingBytes = 0;
    super.reset();
  }

  [Symbol.dispose](): void {
    this.#sending?.[Symbol.dispose]();
    this.#receiving?.[Symbol.dispose]();
  }
}
