/**
 * A function's MSI-X vectors (PCI Local Bus 3.0, 6.8.2): the table that drivers write, masks, and the bits of what waits
 * behind a mask. Any thread may raise a vector, and any vCPU unmask one: both hold the lock.
 */

import type { Registers } from "@lodge/devices";
import { type Msi, SharedLock } from "@lodge/kvm";
import { type ConfigSpace, msixBarBytes, pendingBitsAt } from "./config-space.ts";
import { MsiX } from "./layout.ts";

/** The lock's word lies before the table. */
const TABLE_AT = 8;

export class MsixTable implements Registers {
  readonly #space: ConfigSpace;
  readonly #vectors: number;
  readonly #lock: SharedLock;
  readonly #view: DataView;
  readonly #pendingAt: number;
  readonly #send: (message: Msi) => void;

  /** Memory for a table: all vectors masked. */
  static create(vectors: number): SharedArrayBuffer {
    const shared = new SharedArrayBuffer(TABLE_AT + msixBarBytes(vectors));
    const view = new DataView(shared, TABLE_AT);
    for (let vector = 0; vector < vectors; vector++) {
      view.setUint32(vector * MsiX.ENTRY_BYTES + MsiX.VECTOR_CONTROL, MsiX.MASKED, true);
    }
    return shared;
  }

  constructor(shared: SharedArrayBuffer, space: ConfigSpace, send: (message: Msi) => void) {
    this.#space = space;
    this.#vectors = space.layout.msix!.vectors;
    this.#lock = new SharedLock(new Int32Array(shared, 0, 1), 0);
    this.#view = new DataView(shared, TABLE_AT);
    this.#pendingAt = pendingBitsAt(this.#vectors);
    this.#send = send;
  }

  /** Whether the driver has switched messages on. */
  get isEnabled(): boolean {
    return (this.#space.msixControl & MsiX.ENABLE) !== 0;
  }

  /** Sends a vector's message, or keeps it until it is unmasked. */
  raise(vector: number): void {
    if (vector >= this.#vectors) return;
    this.#lock.acquire();
    if (this.#isOpen(vector)) this.#deliver(vector);
    else this.#setPending(vector, true);
    this.#lock.release();
  }

  /** The control word was written: what waited for it goes out. */
  controlWritten(): void {
    this.#lock.acquire();
    for (let vector = 0; vector < this.#vectors; vector++) this.#flush(vector);
    this.#lock.release();
  }

  read(offset: number, size: number): number {
    if (offset + size > this.#view.byteLength) return 0;
    if (size === 1) return this.#view.getUint8(offset);
    return size === 2 ? this.#view.getUint16(offset, true) : this.#view.getUint32(offset, true);
  }

  /** Entries are written in whole words (6.8.2); the pending bits are only read. */
  write(offset: number, size: number, value: number): void {
    const vector = Math.floor(offset / MsiX.ENTRY_BYTES);
    if (size !== 4 || offset % 4 !== 0 || vector >= this.#vectors) return;
    this.#lock.acquire();
    this.#view.setUint32(offset, value, true);
    if (offset % MsiX.ENTRY_BYTES === MsiX.VECTOR_CONTROL) this.#flush(vector);
    this.#lock.release();
  }

  #isOpen(vector: number): boolean {
    const control = this.#space.msixControl;
    const open = (control & (MsiX.ENABLE | MsiX.FUNCTION_MASK)) === MsiX.ENABLE;
    return open && (this.#entry(vector, MsiX.VECTOR_CONTROL) & MsiX.MASKED) === 0;
  }

  #flush(vector: number): void {
    const at = this.#pendingAt + (vector >> 3);
    if ((this.#view.getUint8(at) & (1 << (vector & 7))) === 0 || !this.#isOpen(vector)) return;
    this.#setPending(vector, false);
    this.#deliver(vector);
  }

  #deliver(vector: number): void {
    this.#send({
      addressLo: this.#entry(vector, MsiX.ADDRESS_LOW),
      addressHi: this.#entry(vector, MsiX.ADDRESS_HIGH),
      data: this.#entry(vector, MsiX.DATA),
      flags: 0,
      devid: 0,
    });
  }

  #entry(vector: number, field: number): number {
    return this.#view.getUint32(vector * MsiX.ENTRY_BYTES + field, true);
  }

  #setPending(vector: number, pending: boolean): void {
    const at = this.#pendingAt + (vector >> 3);
    const bit = 1 << (vector & 7);
    const bits = this.#view.getUint8(at);
    this.#view.setUint8(at, pending ? bits | bit : bits & ~bit);
  }
}
