/** Named bitmaps of a disk, which say what was written since a moment that their user chose. */

import { StorageError } from "../errors.ts";
import { DirtyBits } from "./dirty-bits.ts";

/** As qcow2 has them ("Bitmap directory"), and QEMU. */
const MOST_NAME_BYTES = 1023;
const GRANULARITY = [512, 2 ** 31] as const;
const DEFAULT_GRANULARITY = 65536;
/** What QEMU takes for one, in bytes of bits (BME_MAX_PHYS_SIZE). */
export const MOST_BITMAP_BYTES = 512 << 20;
const MOST_BITMAPS = 65535;

export interface DirtyBitmap {
  readonly name: string;
  /** Kept in the image when that is closed. */
  readonly persistent: boolean;
  /** It follows what is written. */
  enabled: boolean;
  bits: DirtyBits;
  /** A job works with it. */
  busy: boolean;
}

export interface AddBitmapOptions {
  /** Bytes of the disk for each bit: a power of two from 512 on; default 64 KiB. */
  readonly granularity?: number;
  readonly persistent?: boolean;
  /** It does not follow what is written, until it is enabled. */
  readonly disabled?: boolean;
}

export class DirtyBitmaps {
  readonly #list: DirtyBitmap[] = [];
  /** Those that follow what is written: looked at for every write. */
  #enabled: readonly DirtyBitmap[] = [];

  get list(): readonly DirtyBitmap[] {
    return this.#list;
  }

  find(name: string): DirtyBitmap | undefined {
    return this.#list.find((one) => one.name === name);
  }

  add(bitmap: DirtyBitmap): void {
    this.#list.push(bitmap);
    this.#sort();
  }

  remove(bitmap: DirtyBitmap): void {
    this.#list.splice(this.#list.indexOf(bitmap), 1);
    this.#sort();
  }

  enable(bitmap: DirtyBitmap, enabled: boolean): void {
    bitmap.enabled = enabled;
    this.#sort();
  }

  /** This range is being written. */
  mark(offset: number, length: number): void {
    for (const { bits } of this.#enabled) bits.set(offset, length);
  }

  resize(sizeBytes: number): void {
    for (const { bits } of this.#list) bits.resize(sizeBytes);
  }

  #sort(): void {
    this.#enabled = this.#list.filter(({ enabled }) => enabled);
  }
}

/** A new bitmap of a disk of so many bytes, without a bit set; `where` is for messages. */
export function makeBitmap(
  where: string,
  name: string,
  sizeBytes: number,
  { granularity = DEFAULT_GRANULARITY, persistent = false, disabled = false }: AddBitmapOptions,
  others: readonly { readonly name: string }[],
): DirtyBitmap {
  const refuse = (why: string) => new StorageError("STORAGE_OPEN", `${where}: bitmap ${JSON.stringify(name)}: ${why}`);
  const [least, most] = GRANULARITY;
  const nameBytes = Buffer.byteLength(name);
  if (nameBytes === 0 || nameBytes > MOST_NAME_BYTES) throw refuse(`a name has 1 to ${MOST_NAME_BYTES} bytes`);
  if (others.some((other) => other.name === name)) throw refuse("there is one of that name already");
  if (others.length >= MOST_BITMAPS) throw refuse("there are too many");
  if (!Number.isSafeInteger(granularity) || granularity < least || granularity > most || !powerOfTwo(granularity)) {
    throw refuse(`a granularity of ${granularity}: it is a power of two from ${least} to ${most}`);
  }
  if (sizeBytes / granularity / 8 > MOST_BITMAP_BYTES) {
    throw refuse(`a granularity of ${granularity} is too fine for a disk of ${sizeBytes} bytes`);
  }
  return { name, persistent, enabled: !disabled, bits: new DirtyBits(sizeBytes, granularity), busy: false };
}

function powerOfTwo(value: number): boolean {
  return 2 ** Math.round(Math.log2(value)) === value;
}
