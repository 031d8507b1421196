/**
 * A NAT that is made when its guest sends the first frame, or somebody looks at it: loading one is a tenth of what a machine's process
 * does until its guest runs. One that may be refused is made at once.
 */

import type { GuestSide, Nat, NatOptions, Offload, PacketPort } from "@lodge/network";
import * as net from "@lodge/network";

export class LateNat implements PacketPort, Disposable {
  // What every NAT says.
  readonly takesOffloads = true;
  readonly givesOffloads = true;
  readonly hasLargeDatagrams = true;
  readonly #options: NatOptions;
  readonly #onTrouble: (message: string) => void;
  /** There will be none any more. */
  #over = false;
  #guest: GuestSide | undefined;
  #made: Nat | undefined;

  constructor(options: NatOptions, onTrouble: (message: string) => void) {
    this.#options = options;
    this.#onTrouble = onTrouble;
    const { network, network6, mtu, forwards = [] } = options;
    if (network !== undefined || network6 !== undefined || mtu !== undefined || forwards.length > 0) this.#make();
  }

  /** The NAT, which is made now if it was not. */
  get made(): Nat {
    return this.#made ?? this.#make();
  }

  #make(): Nat {
    const nat = new net.Nat(this.#options);
    this.#made = nat;
    if (this.#guest !== undefined) nat.connect(this.#guest);
    return nat;
  }

  connect(guest: GuestSide): void {
    this.#guest = guest;
    this.#made?.connect(guest);
  }

  transmit(frame: Uint8Array, offload?: Offload): void {
    if (this.#made === undefined && !this.#over) this.#makeForGuest();
    this.#made?.transmit(frame, offload);
  }

  #makeForGuest(): void {
    try {
      this.#make();
    } catch (error) {
      this.#over = true;
      this.#onTrouble(`a card has no network: ${error instanceof Error ? error.message : error}`);
    }
  }

  room(): void {
    this.#made?.room();
  }

  reset(): void {
    this.#made?.reset();
  }

  [Symbol.dispose](): void {
    this.#over = true;
    this.#made?.[Symbol.dispose]();
  }
}
