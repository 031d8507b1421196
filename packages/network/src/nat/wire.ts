/** The cable to the guest: what it has no room for waits here, and who wants to send more waits until that is gone. */

import type { GuestSide, Offload } from "../port.ts";

/** Frames that wait at most: answers to what the guest itself sends while it takes nothing. More is lost, as on any wire. */
const MOST_WAITING = 512;

/** What waits: whole frames, each with a mark by which its sender knows that it is still in use. */
interface Waiting {
  readonly frame: Uint8Array;
  readonly offload: Offload | undefined;
  readonly sent: (() => void) | undefined;
}

export class Wire {
  #guest: GuestSide | undefined;
  #waiting: Waiting[] = [];
  #wanting = new Set<() => void>();
  lost = 0;

  connect(guest: GuestSide): void {
    this.#guest = guest;
  }

  get takes(): GuestSide["takes"] {
    return this.#guest?.takes ?? { checksum: false, tcp4: false, tcp6: false };
  }

  /** Whoever has a choice does not send now. */
  get isBlocked(): boolean {
    return this.#waiting.length > 0;
  }

  /**
   * Sends a frame. True: it is with the guest, and the frame is the caller's again. False: it waits, and the frame must stay
   * as it is until `sent` is called.
   */
  send(frame: Uint8Array, offload?: Offload, sent?: () => void): boolean {
    if (this.#waiting.length === 0 && this.#guest?.receive(frame, offload) !== false) return true;
    if (this.#waiting.length >= MOST_WAITING) {
      this.lost += 1;
      return true;
    }
    this.#waiting.push({ frame, offload, sent });
    return false;
  }

  /** Calls back once, when nothing waits any more. */
  whenFree(callback: () => void): void {
    this.#wanting.add(callback);
  }

  /** The guest has room again. */
  room(): void {
    let done = 0;
    for (const { frame, offload, sent } of this.#waiting) {
      if (this.#guest?.receive(frame, offload) === false) break;
      done += 1;
      sent?.();
    }
    if (done > 0) this.#waiting = this.#waiting.slice(done);
    // In turn: who is not served before the room is used up keeps its place.
    for (const callback of this.#wanting) {
      if (this.isBlocked) return;
      this.#wanting.delete(callback);
      callback();
    }
  }

  forget(callback: () => void): void {
    this.#wanting.delete(callback);
  }

  /** The guest is gone, or begins anew. */
  clear(): void {
    for (const { sent } of this.#waiting.splice(0)) sent?.();
    this.#wanting.clear();
  }
}
