/** One connection without a network: segments by hand, a clock that is turned by hand, a far side that is an array. */

import { Errno } from "@lodge/linux";
import type { Clock } from "../src/clock.ts";
import type { FarSide } from "../src/host/far-side.ts";
import { FramePool } from "../src/nat/frame-pool.ts";
import { GuestLink } from "../src/nat/link.ts";
import { addressesOf } from "../src/nat/options.ts";
import { Connection } from "../src/nat/tcp/connection.ts";
import { TcpOutput } from "../src/nat/tcp/output.ts";
import { parseIp } from "../src/packet/ip.ts";
import { parseTcp, type Range, type Segment, TcpFlag } from "../src/packet/tcp.ts";
import { finishChecksum } from "../src/port.ts";

export class ManualClock implements Clock {
  #now = 0;
  #timers: { at: number; callback: () => void }[] = [];

  now(): number {
    return this.#now;
  }

  after(ms: number, callback: () => void): Disposable {
    const timer = { at: this.#now + ms, callback };
    this.#timers.push(timer);
    return {
      [Symbol.dispose]: () => {
        this.#timers = this.#timers.filter((one) => one !== timer);
      },
    };
  }

  get timers(): number {
    return this.#timers.length;
  }

  /** Lets time pass, with everything that is due in it. */
  pass(ms: number): void {
    const end = this.#now + ms;
    for (;;) {
      const next = this.#timers.toSorted((a, b) => a.at - b.at)[0];
      if (next === undefined || next.at > end) break;
      this.#timers = this.#timers.filter((one) => one !== next);
      this.#now = Math.max(this.#now, next.at);
      next.callback();
    }
    this.#now = end;
  }
}

/** What the peer in the world does. */
export class ScriptedFar implements FarSide {
  /** What it has sent and was not yet taken; `end` behind it. */
  sends: Buffer = Buffer.alloc(0);
  ended = false;
  received: Buffer = Buffer.alloc(0);
  /** How much it still takes. */
  takes: number = Number.POSITIVE_INFINITY;
  log: string[] = [];

  receive(room: Uint8Array): number {
    if (this.sends.length === 0) return this.ended ? 0 : -Errno.EAGAIN;
    const length = this.sends.copy(room);
    this.sends = this.sends.subarray(length);
    return length;
  }

  send(data: Uint8Array): number {
    const length = Math.min(data.length, this.takes);
    if (length === 0) return -Errno.EAGAIN;
    this.takes -= length;
    this.received = Buffer.concat([this.received, data.subarray(0, length)]);
    return length;
  }

  end(): void {
    this.log.push("end");
  }

  close(reset: boolean): void {
    this.log.push(reset ? "reset" : "close");
  }
}

/** The first sequence numbers of both ends. */
export const OURS = 1000;
export const THEIRS = 5000;

export interface Heard {
  /** Such as `SYN ACK`. */
  readonly flags: string;
  /** Relative to the first ones, as the scripts count. */
  readonly sequence: number;
  readonly acknowledgement: number;
  readonly data: string;
  readonly window: number;
  readonly mss: number | undefined;
  readonly sack: readonly Range[];
}

const { FIN, SYN, RST, PSH, ACK } = TcpFlag;
const NAMES: [number, string][] = [
  [SYN, "SYN"],
  [FIN, "FIN"],
  [RST, "RST"],
  [PSH, "PSH"],
  [ACK, "ACK"],
];

export class Script {
  readonly clock = new ManualClock();
  readonly far = new ScriptedFar();
  readonly connection: Connection;
  errno = 0;
  gone = false;
  #heard: Heard[] = [];
  #soon = false;

  /** `calls`: the guest is called; otherwise it sends a SYN. */
  constructor({ calls = false, syn = {} }: { calls?: boolean; syn?: Partial<Segment> } = {}) {
    const link = new GuestLink(addressesOf({}), 1500);
    const guest = Uint8Array.of(10, 0, 2, 15);
    link.learn(guest, Uint8Array.of(2, 0, 0, 0, 0, 1));
    link.wire.connect({
      takes: { checksum: false, tcp4: false, tcp6: false },
      receive: (frame, offload) => {
        if (offload?.checksum !== undefined) finishChecksum(frame, offload.checksum);
        this.#hear(parseTcp(parseIp(frame)!, false)!);
        return true;
      },
    });
    const flow = { guest, guestPort: 40000, world: Uint8Array.of(192, 0, 2, 1), worldPort: 80 };
    this.connection = new Connection(
      flow,
      {
        clock: this.clock,
        output: new TcpOutput(link, new FramePool()),
        mss: () => 1460,
        firstSequence: () => OURS,
        acknowledgeSoon: () => {
          this.#soon = true;
        },
        unreachable: (_, errno) => {
          this.errno = errno;
        },
        gone: () => {
          this.gone = true;
        },
      },
      calls ? undefined : segment(0, { flags: SYN, mss: 1460, windowScale: 0, sackPermitted: true, ...syn }),
    );
    this.connection.attach(this.far);
  }

  #hear({ sequence, acknowledgement, flags, data, window, mss, sack }: Segment): void {
    this.#heard.push({
      flags: NAMES.filter(([bit]) => flags & bit)
        .map(([, name]) => name)
        .join(" "),
      sequence: (sequence - OURS) | 0,
      acknowledgement: flags & ACK ? (acknowledgement - THEIRS) | 0 : 0,
      data: Buffer.from(data).toString(),
      window,
      mss,
      sack: sack.map(({ from, to }) => ({ from: from - THEIRS, to: to - THEIRS })),
    });
  }

  /** What was sent to the guest since the last look. */
  heard(): Heard[] {
    if (this.#soon) this.connection.acknowledge();
    this.#soon = false;
    return this.#heard.splice(0);
  }

  /** The same in short: `ACK 1:5`, with the data behind it. */
  said(): string[] {
    return this.heard().map(({ flags, sequence, acknowledgement, data }) =>
      `${flags} ${sequence}:${acknowledgement} ${data}`.trim(),
    );
  }

  /** The guest sends. Numbers are relative. */
  guest(sequence: number, acknowledgement: number, flags: number, data = "", more: Partial<Segment> = {}): void {
    this.connection.receive(
      segment(sequence, { acknowledgement: (OURS + acknowledgement) >>> 0, flags, data: Buffer.from(data), ...more }),
    );
  }

  /** Through the handshake, as the guest's connection to the world. */
  establish(window = 65535): this {
    this.connection.opened();
    this.guest(1, 1, ACK, "", { window });
    this.heard();
    return this;
  }
}

function segment(sequence: number, more: Partial<Segment>): Segment {
  return {
    sourcePort: 40000,
    destinationPort: 80,
    sequence: (THEIRS + sequence) >>> 0,
    acknowledgement: 0,
    flags: ACK,
    window: 65535,
    data: new Uint8Array(0),
    mss: undefined,
    windowScale: undefined,
    sackPermitted: false,
    sack: [],
    ...more,
  };
}
