/**
 * A function's messages without a table (MSI: PCI Local Bus 3.0, 6.8.1), with a 64-bit address, a mask for each, and as many of
 * what the function wants as the driver lets it have. All is in configuration space. Any thread may raise a vector, and any vCPU
 * unmask one: both hold the lock.
 */

import { type Msi, SharedLock } from "@lodge/kvm";
import type { ConfigSpace } from "./config-space.ts";
import { MsiField } from "./layout.ts";

export class MsiMessages {
  readonly #space: ConfigSpace;
  readonly #lock: SharedLock;
  readonly #send: (message: Msi) => void;

  /** Memory for the lock. */
  static create(): SharedArrayBuffer {
    return new SharedArrayBuffer(4);
  }

  constructor(shared: SharedArrayBuffer, space: ConfigSpace, send: (message: Msi) => void) {
    this.#space = space;
    this.#lock = new SharedLock(new Int32Array(shared), 0);
    this.#send = send;
  }

  /** Whether the driver has switched messages on. */
  get isEnabled(): boolean {
    return (this.#control & MsiField.ENABLE) !== 0;
  }

  /** Sends a vector's message, or keeps it until it is unmasked. What comes while messages are off is lost, as on a wire. */
  raise(vector: number): void {
    this.#lock.acquire();
    if (this.isEnabled) {
      const message = vector % this.#granted;
      if ((this.#field(MsiField.MASK) >>> message) & 1)
        this.#setPending(this.#field(MsiField.PENDING) | (1 << message));
      else this.#deliver(message);
    }
    this.#lock.release();
  }

  /** The capability was written: what waited for that goes out. */
  written(): void {
    this.#lock.acquire();
    if (this.isEnabled) {
      const open = this.#field(MsiField.PENDING) & ~this.#field(MsiField.MASK);
      this.#setPending(this.#field(MsiField.PENDING) & ~open);
      for (let message = 0; message < this.#granted; message++) if ((open >>> message) & 1) this.#deliver(message);
    } else this.#setPending(0);
    this.#lock.release();
  }

  get #control(): number {
    return this.#space.read(this.#space.msiAt + MsiField.CONTROL, 2);
  }

  /** How many messages the driver has made room for; what is beyond the function's own is reserved, and counts as those. */
  get #granted(): number {
    const wanted = 2 ** ((this.#control & MsiField.GRANTED) >> MsiField.GRANTED_SHIFT);
    return Math.min(wanted, this.#space.layout.msi!.vectors);
  }

  /** The low bits of the data tell which message it is (6.8.1.3). */
  #deliver(message: number): void {
    const data = this.#field(MsiField.DATA) & 0xffff;
    this.#send({
      addressLo: this.#field(MsiField.ADDRESS_LOW),
      addressHi: this.#field(MsiField.ADDRESS_HIGH),
      data: (data & ~(this.#granted - 1)) | message,
      flags: 0,
      devid: 0,
    });
  }

  #field(offset: number): number {
    return this.#space.read(this.#space.msiAt + offset, 4);
  }

  #setPending(bits: number): void {
    this.#space.set32(this.#space.msiAt + MsiField.PENDING, bits);
  }
}
