/** What the far side sends on one connection, on its way to the guest. */

import { Errno } from "@lodge/linux";
import type { Clock } from "../../clock.ts";
import type { FarSide } from "../../host/far-side.ts";
import { type Range, TcpFlag } from "../../packet/tcp.ts";
import type { Flow, Head, TcpOutput } from "./output.ts";
import type { Sender } from "./sender.ts";
import { distance, isBefore, plus } from "./sequence.ts";

/** What is shorter than this is kept as a copy, not in the frame of 64 KiB that it was received into. */
const WORTH_KEEPING = 16 << 10;

export interface DownlinkOwner {
  readonly flow: Flow;
  /** The acknowledgement and window of now; what is sent with them need not be said again. */
  head(sequence: number, flags: number): Head;
  finSent(): void;
  /** The far side broke: a positive `errno`. */
  broken(errno: number): void;
}

export class Downlink {
  readonly sender: Sender;
  readonly #far: FarSide;
  readonly #output: TcpOutput;
  readonly #clock: Clock;
  readonly #owner: DownlinkOwner;
  /** Where our FIN is, once it is sent. */
  #finAt: number | undefined;
  readonly #again = () => this.pump();

  constructor(sender: Sender, far: FarSide, output: TcpOutput, clock: Clock, owner: DownlinkOwner) {
    this.sender = sender;
    this.#far = far;
    this.#output = output;
    this.#clock = clock;
    this.#owner = owner;
  }

  /** The guest has all, and that it was all. */
  get isFinAcknowledged(): boolean {
    return this.#finAt !== undefined && isBefore(this.#finAt, this.sender.acknowledged);
  }

  /** The guest's window is closed, so that it must be asked now and then (RFC 9293, 3.8.6.1). */
  get mustProbe(): boolean {
    return this.sender.window === 0 && this.sender.inFlight === 0 && this.#finAt === undefined;
  }

  /** Sends what may be sent: again, and then anew. */
  pump(): void {
    for (let gap = this.sender.toResend; gap !== undefined; gap = this.sender.toResend) {
      if (this.#output.isBlocked) {
        this.#output.whenFree(this.#again);
        return;
      }
      this.#resend(gap);
    }
    while (this.#finAt === undefined) {
      if (this.#output.isBlocked) {
        this.#output.whenFree(this.#again);
        return;
      }
      if (!this.#sendMore()) return;
    }
  }

  /** False when nothing can be sent now, or nothing is there. */
  #sendMore(): boolean {
    const { sender } = this;
    const { flow } = this.#owner;
    const { room, inFlight } = sender;
    if (room <= 0 || (room < sender.mss && inFlight > 0)) return false;
    if (inFlight > 0 && this.#output.pool.isExhausted) return false;
    const at = this.#output.dataAt(flow);
    const most = Math.min(room, this.#output.mostData(flow, sender.mss));
    const { pool } = this.#output;
    const frame = pool.take();
    const length = this.#far.receive(frame.subarray(at, at + most));
    if (length <= 0) {
      pool.give(frame);
      if (length === 0) this.#sendFin();
      else if (length !== -Errno.EAGAIN) this.#owner.broken(-length);
      return false;
    }
    const head = this.#owner.head(sender.next, TcpFlag.ACK | (length < most ? TcpFlag.PSH : 0));
    const data = frame.subarray(at, at + length);
    // The frame is free again once it is sent and acknowledged both.
    let uses = 1;
    const done = () => {
      uses -= 1;
      if (uses === 0) pool.give(frame);
    };
    if (length >= WORTH_KEEPING) {
      uses += 1;
      sender.queue.adopt(data, done);
    } else {
      sender.queue.append(data);
    }
    sender.sent(length, this.#clock.now());
    if (this.#output.send(flow, head, frame, length, sender.mss, done)) done();
    return true;
  }

  #sendFin(): void {
    this.#finAt = this.sender.next;
    this.sender.sent(1, this.#clock.now());
    this.#output.control(this.#owner.flow, this.#owner.head(this.#finAt, TcpFlag.FIN | TcpFlag.ACK));
    this.#owner.finSent();
  }

  #resend({ from, to }: Range): void {
    const { sender } = this;
    const { flow } = this.#owner;
    const { pool } = this.#output;
    const at = this.#output.dataAt(flow);
    const most = Math.min(distance(from, to), this.#output.mostData(flow, sender.mss));
    const frame = pool.take();
    const length = sender.queue.copy(from, frame.subarray(at, at + most));
    const end = plus(from, length);
    const fin = this.#finAt === end && length < most ? TcpFlag.FIN : 0;
    sender.resent(fin ? plus(end, 1) : end);
    const give = () => pool.give(frame);
    const head = this.#owner.head(from, TcpFlag.ACK | TcpFlag.PSH | fin);
    if (this.#output.send(flow, head, frame, length, sender.mss, give)) give();
  }

  /** Asks for the window with a segment that the guest has already, so that it answers. */
  probe(): void {
    this.#output.control(this.#owner.flow, this.#owner.head(plus(this.sender.acknowledged, -1), TcpFlag.ACK));
  }

  clear(): void {
    this.#output.forget(this.#again);
    this.sender.queue.clear();
  }
}
