/** What the guest sends on one connection, on its way to the far side; and the window that the guest is offered for it. */

import { Errno } from "@lodge/linux";
import type { FarSide } from "../../host/far-side.ts";
import type { Segment } from "../../packet/tcp.ts";
import { TcpFlag } from "../../packet/tcp.ts";
import { Outbox } from "./outbox.ts";
import { Receiver } from "./receiver.ts";
import { distance, plus } from "./sequence.ts";

/**
 * A window is small until the far side has taken as much at once, and twice as large then: a far side that takes nothing has
 * little kept for it.
 */
const FIRST_WINDOW = 64 << 10;
const MOST_WINDOW = 1 << 20;
/** 65535 times 2^5 is more than that. */
export const WINDOW_SCALE = 5;

export class Uplink {
  readonly receiver: Receiver;
  readonly #outbox = new Outbox();
  readonly #far: FarSide;
  readonly #mss: number;
  /** What windows are in units of: 0 until both sides have said that they scale. */
  readonly #scale: number;
  #limit = FIRST_WINDOW;
  #passed = 0;
  /** Where the guest's FIN is, once that is known. */
  #finAt: number | undefined;
  #ended = false;

  constructor(first: number, far: FarSide, mss: number, scales: boolean) {
    this.receiver = new Receiver(first);
    this.#far = far;
    this.#mss = mss;
    this.#scale = scales ? WINDOW_SCALE : 0;
    this.receiver.offer(FIRST_WINDOW - 1);
  }

  get heldBytes(): number {
    return this.#outbox.size + this.receiver.heldBytes;
  }

  /** All that the guest sent is with the far side, and so is the end of it. */
  get isDone(): boolean {
    return this.#ended;
  }

  /** RCV.WND as a header has it. RFC 9293, 3.8.6.2.2: it grows in steps that are worth a segment. */
  get windowField(): number {
    if (this.#growth >= Math.min(this.#mss, this.#limit / 2)) this.receiver.offer(this.#available);
    return Math.min(Math.max(distance(this.receiver.next, this.receiver.edge), 0) >>> this.#scale, 0xffff);
  }

  get #available(): number {
    const most = this.#scale === 0 ? 0xffff : MOST_WINDOW;
    return Math.min(Math.max(this.#limit - this.#outbox.size, 0), most);
  }

  get #growth(): number {
    return distance(this.receiver.edge, plus(this.receiver.next, this.#available));
  }

  /** The guest has been told of so much less than there is that it may be waiting. */
  get owesUpdate(): boolean {
    return this.#growth >= Math.min(2 * this.#mss, this.#limit / 2);
  }

  /** Takes a segment's data and FIN. A positive `errno` says that the far side is gone. */
  take(segment: Segment): { inOrder: boolean; fin: boolean; errno: number } {
    let errno = 0;
    const data = segment.data;
    const inOrder =
      data.length === 0 ||
      this.receiver.take(segment.sequence, data, (part) => {
        if (errno === 0) errno = this.#pass(part);
      });
    if (segment.flags & TcpFlag.FIN) this.#finAt = plus(segment.sequence, data.length);
    const fin = this.#finAt !== undefined && this.#finAt === this.receiver.next;
    if (fin) {
      this.receiver.next = plus(this.receiver.next, 1);
      this.#finAt = undefined;
      this.#fin = true;
      this.#endIfDone();
    }
    return { inOrder, fin, errno };
  }

  #fin = false;

  #pass(data: Uint8Array): number {
    const result = this.#outbox.pass(this.#far, data, -Errno.EAGAIN);
    if (this.#outbox.size === 0) {
      this.#passed += data.length;
      if (this.#passed >= this.#limit && this.#limit < MOST_WINDOW) {
        this.#limit *= 2;
        this.#passed = 0;
      }
    }
    return -result;
  }

  /** The far side has room. A positive `errno` says that it is gone. */
  flush(): number {
    const result = this.#outbox.flush(this.#far, -Errno.EAGAIN);
    if (result === 0) this.#endIfDone();
    return -result;
  }

  #endIfDone(): void {
    if (!this.#fin || this.#ended || this.#outbox.size > 0) return;
    this.#ended = true;
    this.#far.end();
  }

  clear(): void {
    this.#outbox.clear();
    this.receiver.clear();
  }
}
