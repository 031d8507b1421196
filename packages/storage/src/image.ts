/** What images and the places of their bytes have in common, whatever their format. */

import type { Disk } from "./disk.ts";

/**
 * Bytes somewhere: a host's file or block device, an NBD export, memory. What QEMU calls the protocol layer. Formats
 * keep themselves in one; a read behind the end fills with zeros, and a write behind the end makes it longer where it
 * can grow (elsewhere it is refused with `STORAGE_IO`).
 */
export interface Store extends Disk {
  /** What its user knows it by, for messages: a path, an address. */
  readonly name: string;
  /** Any number, and it may change. An {@link Image}'s is a multiple of 512 and changes by `resize` alone. */
  readonly sizeBytes: number;
  /** Makes it longer, with zeros, or shorter. */
  resize(sizeBytes: number): Promise<void>;
  /**
   * How the bytes from `offset` on are held: the first run that is held alike, at least one byte and at most `length`
   * long. `offset + length` stays inside `sizeBytes`. Costs no reading of data.
   */
  status(offset: number, length: number): Promise<Extent>;
}

/** A disk's content in some format: what a guest sees, with the backing chain below it. */
export interface Image extends Store {
  /** As `qemu-img` spells it: `raw`, `qcow2`, `vmdk` … */
  readonly format: string;
}

/** A run of bytes that an image holds in one way; the fields mean what they mean in `qemu-img map --output=json`. */
export interface Extent {
  /** Bytes. */
  readonly length: number;
  /** It reads as zeros for sure. */
  readonly zero: boolean;
  /** Bytes of it are stored; a hole or a zero cluster has none. */
  readonly data: boolean;
  /** Some image of the chain says what is here; else nobody ever wrote it. */
  readonly present: boolean;
  /** Which image of the chain it comes from: 0 is this one, 1 its backing image … */
  readonly depth: number;
  /** Where in the store `name` the bytes lie as they are read, if they do. */
  readonly offset?: number;
  readonly name?: string;
  readonly compressed?: boolean;
}
