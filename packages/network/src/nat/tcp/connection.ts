/**
 * One TCP connection of the guest: this is the end that it talks to, and the far side is a stream of the host's. RFC 9293,
 * section 3.10, with the answers to blind attacks of RFC 5961.
 */

import { type Clock, Deadline } from "../../clock.ts";
import type { FarSide } from "../../host/far-side.ts";
import { type Segment, sackOption, synOptions, TcpFlag } from "../../packet/tcp.ts";
import { Downlink, type DownlinkOwner } from "./downlink.ts";
import type { Flow, Head, TcpOutput } from "./output.ts";
import { Sender } from "./sender.ts";
import { distance, isBefore, plus } from "./sequence.ts";
import { isReceiving, isSending, type TcpEvent, type TcpState, transition } from "./state.ts";
import { Uplink, WINDOW_SCALE } from "./uplink.ts";

const { FIN, SYN, RST, ACK } = TcpFlag;
const NO_OPTIONS = new Uint8Array(0);

/** A SYN is sent so often; then nobody is there. */
const SYN_TRIES = 6;
const FIRST_SYN_MS = 1000;
/** R2 of RFC 9293, 3.8.3: silence that long (about 100 s) is the end. */
const MOST_RETRIES = 10;
/** Twice the longest life of a segment: on a wire inside of a machine that is short. */
const TIME_WAIT_MS = 2000;
/** The guest is done; the far side takes what is left in that time. */
const LINGER_MS = 120_000;
const LONGEST_PROBE_MS = 60_000;
/** Data acknowledged at once, not with what comes next. */
const UNACKNOWLEDGED = 128 << 10;
/** RFC 9293, 3.7.1: what a host takes that did not say. */
const DEFAULT_MSS = { 4: 536, 6: 1220 } as const;
const LEAST_MSS = 64;

export interface ConnectionOwner {
  readonly clock: Clock;
  readonly output: TcpOutput;
  /** The largest segment that the wire carries in a frame. */
  mss(flow: Flow): number;
  /** A first sequence number that nobody guesses (RFC 6528). */
  firstSequence(): number;
  /** Has {@link Connection.acknowledge} called when what came together is done. */
  acknowledgeSoon(connection: Connection): void;
  /** The far side could not be reached. */
  unreachable(connection: Connection, errno: number): void;
  /** The connection needs its place no more. */
  gone(connection: Connection): void;
}

export class Connection implements DownlinkOwner {
  readonly flow: Flow;
  readonly #owner: ConnectionOwner;
  readonly #first: number;
  readonly #deadline: Deadline;
  #state: TcpState;
  #far: FarSide | undefined;
  #uplink: Uplink | undefined;
  #downlink: Downlink | undefined;
  /** The guest's SYN, or what it says of itself. */
  #peer: Segment | undefined;
  #sacks = false;
  #scale = 0;
  #tries = 0;
  /** Received and not yet acknowledged. */
  #unacknowledged = 0;
  #mustAcknowledge = false;
  /** Nothing of it is left. */
  #isGone = false;

  /** `syn` is the guest's; without one, the guest is called. */
  constructor(flow: Flow, owner: ConnectionOwner, syn?: Segment) {
    this.flow = flow;
    this.#owner = owner;
    this.#first = owner.firstSequence();
    this.#peer = syn;
    this.#state = syn === undefined ? "SYN_SENT" : "OPENING";
    this.#deadline = new Deadline(owner.clock, () => this.#expired());
  }

  get state(): TcpState {
    return this.#state;
  }

  /** The sequence number of the guest's SYN. */
  get firstHeard(): number {
    return this.#peer?.sequence ?? 0;
  }

  get heldBytes(): number {
    return (this.#uplink?.heldBytes ?? 0) + (this.#downlink?.sender.queue.heldBytes ?? 0);
  }

  /** Nothing was heard from the guest on it yet but its SYN. */
  get isEmbryonic(): boolean {
    return this.#state === "OPENING" || this.#state === "SYN_SENT" || this.#state === "SYN_RECEIVED";
  }

  /** The far side that is to be used; of a connection to the guest, it is open. */
  attach(far: FarSide): void {
    this.#far = far;
    if (this.#state === "SYN_SENT") this.#sendSyn();
  }

  /** The far side is connected: so the guest may be. */
  opened(): void {
    if (this.#state !== "OPENING") return;
    this.#synchronize(this.#peer!);
    this.#move("answered");
    this.#sendSyn();
  }

  /** The far side cannot be connected, or is broken. */
  failed(errno: number): void {
    if (this.#state === "OPENING") {
      this.#owner.unreachable(this, errno);
      this.#close(true);
    } else this.abort();
  }

  broken(errno: number): void {
    this.failed(errno);
  }

  /** The far side has something, or room. */
  ready(): void {
    if (this.#uplink === undefined || this.isEmbryonic || this.#isGone) return;
    if (this.#uplink.flush() > 0) {
      this.abort();
      return;
    }
    if (isReceiving(this.#state) && this.#uplink.owesUpdate) this.#acknowledgeNow();
    if (isSending(this.#state)) this.#downlink!.pump();
    this.#rearm(false);
    this.#endIfDone();
  }

  /** Ends it at once, the guest's side with a reset. */
  abort(): void {
    if (this.#isGone) return;
    if (this.#downlink !== undefined && this.#state !== "CLOSED" && this.#state !== "TIME_WAIT") {
      this.#send(this.head(this.#downlink.sender.acceptable, RST | ACK));
    }
    this.#close(true);
  }

  /** Ends it, and the guest is not told: it is gone, or begins anew. */
  drop(): void {
    this.#close(true);
  }

  // What the guest sends.

  receive(segment: Segment): void {
    if (this.#state === "OPENING") {
      const heard = segment.flags & RST && segment.sequence === plus(this.#peer!.sequence, 1);
      if (heard) this.#close(true);
    } else if (this.#state === "SYN_SENT") this.#receiveInSynSent(segment);
    else if (this.#state !== "CLOSED") this.#receiveSynchronized(segment);
  }

  /** RFC 9293, 3.10.7.3. */
  #receiveInSynSent(segment: Segment): void {
    const { flags, acknowledgement } = segment;
    if (flags & ACK && acknowledgement !== plus(this.#first, 1)) {
      if (!(flags & RST)) this.#send({ ...this.#emptyHead(acknowledgement), flags: RST });
      return;
    }
    if (flags & RST) {
      if (flags & ACK) this.#close(true);
      return;
    }
    if (!(flags & SYN)) return;
    this.#synchronize(segment);
    if (!(flags & ACK)) {
      // Both called at the same time.
      this.#move("answered");
      this.#tries = 0;
      this.#sendSyn();
      return;
    }
    this.#move("synchronized");
    this.#tries = 0;
    this.#deadline.clear();
    this.#acknowledgeNow();
    this.ready();
  }

  /** RFC 9293, 3.10.7.4. */
  #receiveSynchronized(segment: Segment): void {
    const { flags, sequence } = segment;
    const { receiver } = this.#uplink!;
    if (this.#state === "SYN_RECEIVED" && flags & SYN && plus(sequence, 1) === receiver.next) {
      // Our answer was lost, unless this is the other half of two calls at the same time.
      if (!(flags & ACK)) {
        this.#sendSyn();
        return;
      }
    } else {
      const isHere = this.#isAcceptable(segment);
      if (flags & RST) {
        if (sequence === receiver.next) this.#close(true);
        else if (isHere) this.#acknowledgeNow();
        return;
      }
      if (!isHere) {
        this.#acknowledgeNow();
        // Who asks while the window is closed may still have something to acknowledge.
        if (sequence === receiver.next && flags & ACK && !(flags & SYN)) this.#takeAcknowledgement(segment);
        if (!this.#isGone) this.ready();
        return;
      } else if (flags & SYN) {
        this.#acknowledgeNow();
        return;
      }
    }
    if (!(flags & ACK) || !this.#takeAcknowledgement(segment)) return;
    if (isReceiving(this.#state)) this.#takeData(segment);
    // A FIN that comes again has its acknowledgement lost.
    else if (flags & FIN) this.#acknowledgeNow();
    if (this.#isGone) return;
    this.#downlink!.pump();
    this.#rearm(false);
    this.#endIfDone();
  }

  /** RFC 9293, 3.4. */
  #isAcceptable({ sequence, data, flags }: Segment): boolean {
    const { next, edge } = this.#uplink!.receiver;
    const length = data.length + (flags & FIN ? 1 : 0) + (flags & SYN ? 1 : 0);
    if (length === 0) return !isBefore(sequence, next) && !isBefore(edge, sequence);
    return isBefore(sequence, edge) && isBefore(next, plus(sequence, length));
  }

  /** False: the segment's data is not to be looked at. */
  #takeAcknowledgement(segment: Segment): boolean {
    const { sender } = this.#downlink!;
    const { acknowledgement, sequence } = segment;
    if (this.#state === "SYN_RECEIVED") {
      if (acknowledgement !== plus(this.#first, 1)) {
        this.#send({ ...this.#emptyHead(acknowledgement), flags: RST });
        return false;
      }
      this.#move("synchronized");
      this.#tries = 0;
      this.#deadline.clear();
    }
    if (isBefore(sender.next, acknowledgement)) {
      this.#acknowledgeNow();
      return false;
    }
    if (isBefore(acknowledgement, sender.acknowledged)) return true;
    const bare = segment.data.length === 0 && !(segment.flags & (SYN | FIN));
    const window = segment.window << (segment.flags & SYN ? 0 : this.#scale);
    const sack = this.#sacks ? segment.sack : [];
    const news = sender.heard({ sequence, acknowledgement, window, sack, bare }, this.#owner.clock.now());
    if (news || window > 0) this.#tries = 0;
    if (this.#downlink!.isFinAcknowledged && this.#isFinOutstanding) this.#move("finAcknowledged");
    if (news) this.#rearm(true);
    return true;
  }

  get #isFinOutstanding(): boolean {
    return this.#state === "FIN_WAIT_1" || this.#state === "CLOSING" || this.#state === "LAST_ACK";
  }

  #takeData(segment: Segment): void {
    if (segment.data.length === 0 && !(segment.flags & FIN)) {
      // A FIN that came early may be due, but only data brings it.
      return;
    }
    const { inOrder, fin, errno } = this.#uplink!.take(segment);
    if (errno > 0) {
      this.abort();
      return;
    }
    this.#unacknowledged += segment.data.length;
    if (fin) this.#move("finReceived");
    if (!inOrder || fin || this.#unacknowledged >= UNACKNOWLEDGED) this.#acknowledgeNow();
    else this.#acknowledgeLater();
  }

  // What is sent to the guest.

  #acknowledgeLater(): void {
    this.#mustAcknowledge = true;
    this.#owner.acknowledgeSoon(this);
  }

  /** What came together is done. */
  acknowledge(): void {
    if (this.#mustAcknowledge && !this.#isGone) this.#acknowledgeNow();
  }

  #acknowledgeNow(): void {
    if (this.#downlink === undefined) return;
    const head = this.head(this.#downlink.sender.acceptable, ACK);
    const ranges = this.#sacks ? this.#uplink!.receiver.ranges : [];
    this.#send(ranges.length > 0 ? { ...head, options: sackOption(ranges) } : head);
  }

  head(sequence: number, flags: number): Head {
    this.#mustAcknowledge = false;
    this.#unacknowledged = 0;
    const { receiver, windowField: window } = this.#uplink!;
    return { sequence, acknowledgement: receiver.next, flags, window, options: NO_OPTIONS };
  }

  #emptyHead(sequence: number): Head {
    return { sequence, acknowledgement: 0, flags: 0, window: 0, options: NO_OPTIONS };
  }

  #send(head: Head): void {
    this.#owner.output.control(this.flow, head);
  }

  #sendSyn(): void {
    const { flow } = this;
    const answers = this.#uplink !== undefined;
    const scale = !answers || this.#peer?.windowScale !== undefined ? WINDOW_SCALE : undefined;
    this.#send({
      sequence: this.#first,
      acknowledgement: this.#uplink?.receiver.next ?? 0,
      flags: SYN | (answers ? ACK : 0),
      window: 0xffff,
      options: synOptions(this.#owner.mss(flow), scale, !answers || this.#sacks),
    });
    this.#deadline.set(FIRST_SYN_MS * 2 ** this.#tries);
  }

  /** The guest's SYN says what it can. */
  #synchronize(syn: Segment): void {
    const { flow } = this;
    this.#peer = syn;
    this.#sacks = syn.sackPermitted;
    this.#scale = syn.windowScale ?? 0;
    const theirs = syn.mss ?? DEFAULT_MSS[flow.guest.length === 4 ? 4 : 6];
    const mss = Math.max(Math.min(theirs, this.#owner.mss(flow)), LEAST_MSS);
    const heard = { sequence: syn.sequence, acknowledgement: syn.acknowledgement };
    const sender = new Sender(plus(this.#first, 1), mss, syn.window, heard);
    this.#uplink = new Uplink(plus(syn.sequence, 1), this.#far!, mss, syn.windowScale !== undefined);
    this.#downlink = new Downlink(sender, this.#far!, this.#owner.output, this.#owner.clock, this);
  }

  finSent(): void {
    this.#move("finSent");
  }

  // Time, and the end.

  #move(event: TcpEvent): void {
    this.#state = transition(this.#state, event);
    if (this.#state === "TIME_WAIT") this.#deadline.set(TIME_WAIT_MS);
  }

  #rearm(restart: boolean): void {
    if (this.isEmbryonic || this.#state === "TIME_WAIT" || this.#state === "CLOSED") return;
    const { sender, mustProbe } = this.#downlink!;
    if (sender.inFlight > 0) {
      if (restart || !this.#deadline.isSet) this.#deadline.set(sender.roundTrip.timeoutMs);
    } else if (mustProbe && isSending(this.#state)) {
      if (!this.#deadline.isSet) this.#deadline.set(this.#probeMs);
    } else this.#deadline.clear();
  }

  get #probeMs(): number {
    return Math.min(this.#downlink!.sender.roundTrip.timeoutMs * 2 ** this.#tries, LONGEST_PROBE_MS);
  }

  #expired(): void {
    this.#tries += 1;
    if (this.#state === "CLOSED") {
      this.#finish();
      return;
    }
    if (this.#state === "TIME_WAIT") {
      this.#state = "CLOSED";
      this.#endIfDone();
      return;
    }
    if (this.isEmbryonic) {
      if (this.#tries < SYN_TRIES) {
        this.#sendSyn();
        return;
      }
      this.#close(true);
      return;
    }
    const { sender, mustProbe } = this.#downlink!;
    if (mustProbe) {
      this.#downlink!.probe();
    } else if (sender.inFlight > 0) {
      if (this.#tries > MOST_RETRIES && sender.window > 0) {
        this.abort();
        return;
      }
      sender.expired();
      this.#downlink!.pump();
    }
    this.#rearm(true);
  }

  /** The guest is through with it; the far side may still have to take something. */
  #endIfDone(): void {
    if (this.#state !== "TIME_WAIT" && this.#state !== "CLOSED") return;
    if (this.#uplink?.isDone) {
      this.#far?.close(false);
      this.#far = undefined;
      if (this.#state === "CLOSED") this.#finish();
    } else if (this.#state === "CLOSED" && !this.#deadline.isSet) this.#deadline.set(LINGER_MS);
  }

  #close(reset: boolean): void {
    this.#state = "CLOSED";
    this.#far?.close(reset);
    this.#far = undefined;
    this.#finish();
  }

  #finish(): void {
    if (this.#isGone) return;
    this.#isGone = true;
    this.#state = "CLOSED";
    this.#far?.close(true);
    this.#far = undefined;
    this.#deadline[Symbol.dispose]();
    this.#uplink?.clear();
    this.#downlink?.clear();
    this.#owner.gone(this);
  }

  /** What it is, for those who look. */
  get summary(): { state: TcpState; heldBytes: number; ahead: number } {
    const ahead = this.#downlink === undefined ? 0 : distance(this.#first, this.#downlink.sender.acknowledged);
    return { state: this.#state, heldBytes: this.heldBytes, ahead };
  }
}
