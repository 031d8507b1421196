/** A packet port through which only what a filter lets out goes out. */

import type { GuestSide, Offload, PacketPort } from "../port.ts";
import { PortAround } from "../port-around.ts";
import { CardAddresses, type CardAddressesOptions } from "./card.ts";
import { Filter } from "./filter.ts";
import type { Rule } from "./rules.ts";

export interface FilterPortOptions extends CardAddressesOptions {
  readonly rules: readonly Rule[];
}

export class FilterPort extends PortAround {
  readonly #filter: Filter;
  readonly #addresses: CardAddresses;
  /** Frames of the guest's that did not go out. */
  spoofed = 0;

  constructor(inner: PacketPort, { rules, ...card }: FilterPortOptions) {
    super(inner);
    this.#addresses = new CardAddresses(card);
    this.#filter = new Filter({ rules, mac: card.mac, mayUse: (address) => this.#addresses.mayUse(address) });
  }

  transmit(frame: Uint8Array, offload?: Offload, queue?: number): void {
    if (this.#filter.accepts(frame)) this.inner.transmit(frame, offload, queue);
    else this.spoofed += 1;
  }

  protected receive(guest: GuestSide, frame: Uint8Array, offload?: Offload, queue?: number): boolean {
    this.#addresses.heard(frame);
    return guest.receive(frame, offload, queue);
  }
}
