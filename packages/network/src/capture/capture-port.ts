/** A packet port that writes down what goes through it, both ways. */

import { finishChecksum, type GuestSide, type Offload, type PacketPort } from "../port.ts";
import { PortAround } from "../port-around.ts";
import type { PcapFile } from "./pcap.ts";

export class CapturePort extends PortAround {
  readonly #file: PcapFile;

  constructor(inner: PacketPort, file: PcapFile) {
    super(inner);
    this.#file = file;
  }

  transmit(frame: Uint8Array, offload?: Offload, queue?: number): void {
    this.#record(frame, offload);
    this.inner.transmit(frame, offload, queue);
  }

  protected receive(guest: GuestSide, frame: Uint8Array, offload?: Offload, queue?: number): boolean {
    const taken = guest.receive(frame, offload, queue);
    if (taken) this.#record(frame, offload);
    return taken;
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
