/** As much of a guest as the benchmark needs: it takes and sends segments of 64 KiB and does nothing with them. */

import type { GuestSide, Nat, Offload } from "@lodge/network";
import { Ethernet, putEthernet, u16, u32 } from "../../packages/network/src/packet/ethernet.ts";
import { putIp } from "../../packages/network/src/packet/ip.ts";
import { putTcp, synOptions, Tcp, TcpFlag } from "../../packages/network/src/packet/tcp.ts";

const MAC = Uint8Array.of(0x52, 0x54, 0, 0, 0, 1);
const GATEWAY_MAC = Uint8Array.of(0x52, 0x55, 10, 0, 2, 2);
const GUEST = Uint8Array.of(10, 0, 2, 15);
const GATEWAY = Uint8Array.of(10, 0, 2, 2);
const IP = Ethernet.LENGTH;
const TCP = IP + 20;
const SCALE = 7;
const NO_OPTIONS = new Uint8Array(0);

interface End {
  readonly port: number;
  readonly localPort: number;
  next: number;
  expects: number;
  received: number;
  /** How far the NAT lets it send. */
  edge: number;
  acknowledged: number;
  state: "opening" | "open" | "ended";
  wake: () => void;
}

export class SyntheticGuest {
  readonly #nat: Nat;
  readonly #ends = new Map<number, End>();
  readonly #frame = new Uint8Array(65600);
  #ports = 1024;

  constructor(nat: Nat) {
    this.#nat = nat;
    const side: GuestSide = {
      takes: { checksum: true, tcp4: true, tcp6: true },
      receive: (frame) => {
        this.#receive(frame);
        return true;
      },
    };
    nat.connect(side);
  }

  #receive(frame: Uint8Array): void {
    if (u16(frame, Ethernet.TYPE) !== 0x0800) return;
    const end = this.#ends.get(u16(frame, TCP + Tcp.DESTINATION));
    if (end === undefined) return;
    const flags = frame[TCP + Tcp.FLAGS]!;
    const header = (frame[TCP + Tcp.OFFSET]! >> 4) * 4;
    const data = u16(frame, IP + 2) - 20 - header;
    const isSyn = (flags & TcpFlag.SYN) !== 0;
    if (isSyn) end.expects = u32(frame, TCP + Tcp.SEQUENCE);
    end.expects = (end.expects + data + (isSyn || flags & TcpFlag.FIN ? 1 : 0)) >>> 0;
    end.received += data;
    end.acknowledged = u32(frame, TCP + Tcp.ACKNOWLEDGEMENT);
    end.edge = (end.acknowledged + (u16(frame, TCP + Tcp.WINDOW) << (isSyn ? 0 : 5))) >>> 0;
    if (isSyn) end.state = "open";
    if (flags & (TcpFlag.FIN | TcpFlag.RST)) end.state = "ended";
    // As a driver has it: the answer is not sent from within the delivery.
    if (data > 0 || isSyn || end.state === "ended") queueMicrotask(() => this.#send(end, TcpFlag.ACK, 0));
    end.wake();
  }

  #send(end: End, flags: number, length: number, options: Uint8Array = NO_OPTIONS): void {
    const tcpLength = Tcp.HEADER + options.length + length;
    const frame = this.#frame.subarray(0, TCP + tcpLength);
    putEthernet(frame, GATEWAY_MAC, MAC, 0x0800);
    putIp(frame, IP, { source: GUEST, destination: GATEWAY, protocol: 6, length: tcpLength });
    const numbers = { sequence: end.next, acknowledgement: end.expects, flags, window: 0xffff, options };
    putTcp(frame, TCP, { sourcePort: end.localPort, destinationPort: end.port, ...numbers });
    end.next = (end.next + length + (flags & (TcpFlag.SYN | TcpFlag.FIN) ? 1 : 0)) >>> 0;
    const offload: Offload = { checksum: { start: TCP, offset: Tcp.CHECKSUM } };
    this.#nat.transmit(frame, offload);
  }

  /** Resolves when the connection is made. */
  async open(port: number): Promise<End> {
    const localPort = this.#ports++;
    const numbers = { next: 1, expects: 0, received: 0, edge: 0, acknowledged: 0 };
    const end: End = { port, localPort, ...numbers, state: "opening", wake: () => {} };
    this.#ends.set(localPort, end);
    this.#send(end, TcpFlag.SYN, 0, synOptions(1460, SCALE, true));
    await this.#until(end, () => end.state === "open");
    return end;
  }

  async #until(end: End, holds: () => boolean): Promise<void> {
    while (!holds()) {
      await new Promise<void>((resolve) => {
        end.wake = resolve;
      });
    }
  }

  async receiveAll(port: number): Promise<number> {
    const end = await this.open(port);
    await this.#until(end, () => end.state === "ended");
    return end.received;
  }

  async sendAll(port: number, bytes: number): Promise<number> {
    const end = await this.open(port);
    const segment = 44 * 1460;
    for (let left = bytes; left > 0; ) {
      const room = (end.edge - end.next) | 0;
      const length = Math.min(segment, left, room);
      if (length < Math.min(segment, left)) {
        await this.#until(end, () => ((end.edge - end.next) | 0) > room);
        continue;
      }
      this.#send(end, TcpFlag.ACK, length);
      left -= length;
    }
    await this.#until(end, () => end.acknowledged === end.next);
    return bytes;
  }
}
