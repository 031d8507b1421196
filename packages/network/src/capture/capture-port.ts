/** A packet port that writes down what goes through it, both ways. */

import { finishChecksum, type GuestSide, type Offload, type PacketPort } from "../port.ts";
import type { PcapFile } from "./pcap.ts";

export class CapturePort implements PacketPort {
  readonly takesOffloads: boolean;
  readonly givesOffloads: boolean;
  readonly #inner: PacketPort;
  readonly #file: PcapFile;

  constructor(inner: PacketPort, file: PcapFile) {
    this.#inner = inner;
    this.#file = file;
    this.takesOffloads = inner.takesOffloads;
    this.givesOffloads = inner.givesOffloads;
  }

  transmit(frame: Uint8Array, offload?: Offload): void {
    this.#record(frame, offload);
    this.#inner.transmit(frame, offload);
  }

  connect(guest: GuestSide): void {
    const receive = (frame: Uint8Array, offload?: Offload): boolean => {
      const taken = guest.receive(frame, offload);
      if (taken) this.#record(frame, offload);
      return taken;
    };
    this.#inner.connect({
      receive,
      get takes() {
        return guest.takes;
      },
    });
  }

  room(): void {
    this.#inner.room?.();
  }

  reset(): void {
    this.#inner.reset?.();
  }

  /** With the checksum that somebody will put there, so that nobody who reads it wonders. */
  #record(frame: Uint8Array, offload: Offload | undefined): void {
    if (offload?.checksum === undefined) {
      this.#file.record(frame);
      return;
    }
    const whole = frame.slice();
    finishChecksum(whole, offload.checksum);
    this.#file.record(whole);
  }
}
