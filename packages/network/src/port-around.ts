/** A packet port around another one, which has what it does not see to. */

import type { GuestSide, Offload, PacketPort } from "./port.ts";

export abstract class PortAround implements PacketPort {
  readonly takesOffloads: boolean;
  readonly givesOffloads: boolean;
  readonly hasLargeDatagrams: boolean;
  protected readonly inner: PacketPort;

  constructor(inner: PacketPort) {
    this.inner = inner;
    this.takesOffloads = inner.takesOffloads;
    this.givesOffloads = inner.givesOffloads;
    this.hasLargeDatagrams = inner.hasLargeDatagrams ?? false;
  }

  abstract transmit(frame: Uint8Array, offload?: Offload, queue?: number): void;

  /** A frame for the guest; false: it has no room, as {@link GuestSide.receive}. */
  protected abstract receive(guest: GuestSide, frame: Uint8Array, offload?: Offload, queue?: number): boolean;

  connect(guest: GuestSide): void {
    this.inner.connect({
      receive: (frame, offload, queue) => this.receive(guest, frame, offload, queue),
      get takes() {
        return guest.takes;
      },
    });
  }

  room(): void {
    this.inner.room?.();
  }

  usePairs(count: number): void {
    this.inner.usePairs?.(count);
  }

  reset(): void {
    this.inner.reset?.();
  }
}
