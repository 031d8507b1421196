/** Segments of TCP as frames on the wire to the guest. */

import { fold, pseudoHeader } from "../../packet/checksum.ts";
import { Ethernet, putU16 } from "../../packet/ethernet.ts";
import { IpProtocol, ipHeaderLength } from "../../packet/ip.ts";
import { putTcp, Tcp, type TcpHeader } from "../../packet/tcp.ts";
import { finishChecksum, type Offload } from "../../port.ts";
import type { FramePool } from "../frame-pool.ts";
import type { GuestLink } from "../link.ts";

/** One connection by its ends: the guest's, and the one that the guest takes for the other. */
export interface Flow {
  readonly guest: Uint8Array;
  readonly guestPort: number;
  readonly world: Uint8Array;
  readonly worldPort: number;
}

/** Everything of a header that is not the flow's. */
export type Head = Omit<TcpHeader, "sourcePort" | "destinationPort">;

/** Of a segment that the guest's kernel takes apart, with room for the longest headers. */
const MOST_DATA = 65535 - 40 - 60;

export class TcpOutput {
  readonly pool: FramePool;
  readonly #link: GuestLink;

  constructor(link: GuestLink, pool: FramePool) {
    this.#link = link;
    this.pool = pool;
  }

  get isBlocked(): boolean {
    return this.#link.wire.isBlocked;
  }

  whenFree(callback: () => void): void {
    this.#link.wire.whenFree(callback);
  }

  forget(callback: () => void): void {
    this.#link.wire.forget(callback);
  }

  /** Where data begins in a frame without TCP options. */
  dataAt({ guest }: Flow): number {
    return Ethernet.LENGTH + ipHeaderLength(guest) + Tcp.HEADER;
  }

  /** The most data for one frame: many segments where the guest takes them together. */
  mostData({ guest }: Flow, mss: number): number {
    const { tcp4, tcp6 } = this.#link.wire.takes;
    return (guest.length === 4 ? tcp4 : tcp6) ? Math.floor(MOST_DATA / mss) * mss : mss;
  }

  /** A segment without data. */
  control(flow: Flow, head: Head): void {
    const frame = new Uint8Array(this.dataAt(flow) + head.options.length);
    this.send(flow, head, frame, 0, 0);
  }

  /**
   * Sends a frame whose data, if any, is in place. True: the frame is the caller's again; false: once `sent` is called.
   */
  send(flow: Flow, head: Head, frame: Uint8Array, length: number, mss: number, sent?: () => void): boolean {
    const { guest, world } = flow;
    const tcpLength = Tcp.HEADER + head.options.length + length;
    const ip = Ethernet.LENGTH;
    const tcp = ip + ipHeaderLength(guest);
    const header = { source: world, destination: guest, protocol: IpProtocol.TCP, length: tcpLength };
    if (!this.#link.putHeaders(frame, header)) return true;
    putTcp(frame, tcp, { sourcePort: flow.worldPort, destinationPort: flow.guestPort, ...head });
    putU16(frame, tcp + Tcp.CHECKSUM, fold(pseudoHeader(world, guest, IpProtocol.TCP, tcpLength)));
    const whole = frame.length === tcp + tcpLength ? frame : frame.subarray(0, tcp + tcpLength);
    const checksum = { start: tcp, offset: Tcp.CHECKSUM };
    if (!this.#link.wire.takes.checksum) {
      finishChecksum(whole, checksum);
      return this.#link.wire.send(whole, undefined, sent);
    }
    const version = guest.length === 4 ? 4 : 6;
    const offload: Offload =
      length > mss
        ? { checksum, segments: { version, size: mss, headerBytes: tcp + Tcp.HEADER, congestion: false } }
        : { checksum };
    return this.#link.wire.send(whole, offload, sent);
  }
}
