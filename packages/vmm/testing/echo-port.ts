/** The other end of a guest's network cable: a station that answers ARP and ICMP echo requests, and nothing else. */

import { finishChecksum, type GuestSide, type Offload, type PacketPort } from "@lodge/network";

const ARP = 0x0806;
const IPV4 = 0x0800;
const ICMP = 1;
const ECHO_REQUEST = 8;

export class EchoPort implements PacketPort {
  readonly takesOffloads = true;
  readonly givesOffloads = true;
  readonly #mac: Uint8Array;
  readonly #waiting: Uint8Array[] = [];
  #guest: GuestSide | undefined;
  /** Frames from the guest. */
  frames = 0;

  constructor(mac: string) {
    this.#mac = Uint8Array.from(mac.split(":"), (byte) => Number.parseInt(byte, 16));
  }

  connect(guest: GuestSide): void {
    this.#guest = guest;
  }

  transmit(from: Uint8Array, offload?: Offload): void {
    this.frames += 1;
    const frame = from.slice();
    if (offload?.checksum !== undefined) finishChecksum(frame, offload.checksum);
    const view = new DataView(frame.buffer, frame.byteOffset, frame.length);
    const type = view.getUint16(12);
    if (type === ARP && frame.length >= 42 && view.getUint16(20) === 1) this.#answerArp(frame, view);
    else if (type === IPV4 && frame.length >= 34 && frame[23] === ICMP) this.#answerEcho(frame, view);
  }

  room(): void {
    while (this.#waiting.length > 0 && this.#guest?.receive(this.#waiting[0]!)) this.#waiting.shift();
  }

  #send(frame: Uint8Array): void {
    frame.copyWithin(0, 6, 12);
    frame.set(this.#mac, 6);
    if (this.#waiting.length > 0 || this.#guest?.receive(frame) === false) this.#waiting.push(frame);
  }

  /** RFC 826: whatever address is asked for is ours. */
  #answerArp(frame: Uint8Array, view: DataView): void {
    view.setUint16(20, 2);
    const [asker, wanted] = [frame.slice(22, 32), frame.slice(38, 42)];
    frame.set(this.#mac, 22);
    frame.set(wanted, 28);
    frame.set(asker, 32);
    this.#send(frame);
  }

  /** RFC 792. Fragments are answered as they come: only the first has ICMP's header. */
  #answerEcho(frame: Uint8Array, view: DataView): void {
    const headerBytes = (frame[14]! & 0xf) * 4;
    const isFirst = (view.getUint16(20) & 0x1fff) === 0;
    const icmp = 14 + headerBytes;
    if (isFirst && frame[icmp] !== ECHO_REQUEST) return;
    const source = frame.slice(26, 30);
    frame.copyWithin(26, 30, 34);
    frame.set(source, 30);
    if (isFirst) {
      frame[icmp] = 0;
      // RFC 1624: the type is 0x0800 less, so the checksum is that much more, with its carry.
      const sum = view.getUint16(icmp + 2) + 0x0800;
      view.setUint16(icmp + 2, (sum & 0xffff) + (sum >>> 16));
    }
    this.#send(frame);
  }
}
