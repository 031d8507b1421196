/** A packet port through which only what a filter lets out goes out. */

import type { GuestSide, Offload, PacketPort } from "../port.ts";
import { CardAddresses } from "./card.ts";
import { Filter } from "./filter.ts";
import type { Rule } from "./rules.ts";

export interface FilterPortOptions {
  readonly rules: readonly Rule[];
  readonly mac: Uint8Array;
  /** The guest's addresses. Default: they are learnt. */
  readonly addresses?: readonly Uint8Array[];
}

export class FilterPort implements PacketPort {
  readonly takesOffloads: boolean;
  readonly givesOffloads: boolean;
  readonly #inner: PacketPort;
  readonly #filter: Filter;
  readonly #addresses: CardAddresses;
  /** Frames of the guest's that did not go out. */
  spoofed = 0;

  constructor(inner: PacketPort, { rules, mac, addresses }: FilterPortOptions) {
    this.#inner = inner;
    this.takesOffloads = inner.takesOffloads;
    this.givesOffloads = inner.givesOffloads;
    this.#addresses = new CardAddresses(mac, addresses);
    this.#filter = new Filter({ rules, mac, mayUse: (address) => this.#addresses.mayUse(address) });
  }

  transmit(frame: Uint8Array, offload?: Offload): void {
    if (this.#filter.accepts(frame)) this.#inner.transmit(frame, offload);
    else this.spoofed += 1;
  }

  connect(guest: GuestSide): void {
    this.#inner.connect({
      receive: (frame, offload) => {
        this.#addresses.heard(frame);
        return guest.receive(frame, offload);
      },
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
}
