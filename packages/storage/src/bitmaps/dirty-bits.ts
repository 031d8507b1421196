/** Which parts of a disk are to be looked at: a bit for so many bytes. */

/** Set bits of a byte. */
const ONES = Uint8Array.from({ length: 256 }, (_, byte) => {
  let count = 0;
  for (let left = byte; left > 0; left >>= 1) count += left & 1;
  return count;
});

/** A run of bytes of the disk. */
export interface Range {
  offset: number;
  length: number;
}

export class DirtyBits {
  /** Bytes of the disk for each bit: a power of two. */
  readonly granularity: number;
  #sizeBytes: number;
  #bytes: Uint8Array<ArrayBuffer>;
  #count = 0;

  constructor(sizeBytes: number, granularity: number) {
    this.granularity = granularity;
    this.#sizeBytes = sizeBytes;
    this.#bytes = new Uint8Array(Math.ceil(sizeBytes / granularity / 8));
  }

  get sizeBytes(): number {
    return this.#sizeBytes;
  }

  /** The bits, the first the lowest of the first byte, as qcow2 stores them. They are changed by {@link load} alone. */
  get bytes(): Uint8Array {
    return this.#bytes;
  }

  /** How many bits are set. */
  get count(): number {
    return this.#count;
  }

  /** How many bits there are. */
  get length(): number {
    return Math.ceil(this.#sizeBytes / this.granularity);
  }

  /** Bytes that the set bits stand for. */
  get dirtyBytes(): number {
    const behindEnd =
      this.length > 0 && this.#has(this.length - 1) ? this.length * this.granularity - this.#sizeBytes : 0;
    return this.#count * this.granularity - behindEnd;
  }

  set(offset: number, length: number): void {
    this.#change(offset, length, true);
  }

  clear(offset: number, length: number): void {
    this.#change(offset, length, false);
  }

  /** Whether any bit of the range is set. */
  any(offset: number, length: number): boolean {
    const end = this.#end(offset, length);
    for (let bit = Math.floor(offset / this.granularity); bit < end; bit++) if (this.#has(bit)) return true;
    return false;
  }

  /** Takes over stored bytes of the same granularity and size. */
  load(bytes: Uint8Array, at: number): void {
    const there = bytes.subarray(0, Math.max(0, this.#bytes.length - at));
    for (let index = 0; index < there.length; index++) {
      const byte = at + index === this.#bytes.length - 1 ? there[index]! & this.#lastMask() : there[index]!;
      this.#count += ONES[byte]! - ONES[this.#bytes[at + index]!]!;
      this.#bytes[at + index] = byte;
    }
  }

  copy(): DirtyBits {
    const copy = new DirtyBits(this.#sizeBytes, this.granularity);
    copy.load(this.#bytes, 0);
    return copy;
  }

  /** Sets what the other has set; granularities may differ. */
  merge(other: DirtyBits): void {
    for (let run = other.next(0); run !== undefined; run = other.next(run.offset + run.length)) {
      this.set(run.offset, run.length);
    }
  }

  /** The first run of set bits that begins at `offset` or behind it, at most `most` bytes of it and inside the disk. */
  next(offset: number, most = Number.POSITIVE_INFINITY): Range | undefined {
    const end = this.length;
    let bit = Math.ceil(offset / this.granularity);
    while (bit < end && !this.#has(bit)) {
      // Bytes without any are passed over whole.
      if (bit % 8 === 0 && this.#bytes[bit / 8] === 0) bit += 8;
      else bit += 1;
    }
    if (bit >= end) return undefined;
    const start = bit;
    const stop = Math.min(end, start + Math.max(1, Math.floor(most / this.granularity)));
    while (bit < stop && this.#has(bit)) {
      if (bit % 8 === 0 && bit + 8 <= stop && this.#bytes[bit / 8] === 255) bit += 8;
      else bit += 1;
    }
    const from = start * this.granularity;
    return { offset: from, length: Math.min(bit * this.granularity, this.#sizeBytes) - from };
  }

  /** The disk has another size; what is new is not set. */
  resize(sizeBytes: number): void {
    const bytes = new Uint8Array(Math.ceil(sizeBytes / this.granularity / 8));
    const old = this.#bytes.subarray(0, bytes.length);
    this.#sizeBytes = sizeBytes;
    this.#bytes = bytes;
    this.#count = 0;
    this.load(old, 0);
  }

  #end(offset: number, length: number): number {
    return Math.min(this.length, Math.ceil((offset + length) / this.granularity));
  }

  /** Bits of the last byte that stand for something. */
  #lastMask(): number {
    const used = this.length % 8;
    return used === 0 ? 255 : 2 ** used - 1;
  }

  #has(bit: number): boolean {
    return ((this.#bytes[Math.floor(bit / 8)]! >> (bit % 8)) & 1) === 1;
  }

  #change(offset: number, length: number, set: boolean): void {
    const end = length === 0 ? 0 : this.#end(offset, length);
    for (let bit = Math.floor(offset / this.granularity); bit < end; ) {
      const index = Math.floor(bit / 8);
      const bits = Math.min(8 - (bit % 8), end - bit);
      const mask = ((1 << bits) - 1) << (bit % 8);
      const before = this.#bytes[index]!;
      const after = set ? before | mask : before & ~mask;
      this.#count += ONES[after]! - ONES[before]!;
      this.#bytes[index] = after;
      bit += bits;
    }
  }
}

/** The bits that stand for so much that all of them fit into 16 MiB, and no less than `least`. */
export function granularityFor(sizeBytes: number, least: number): number {
  let granularity = least;
  while (sizeBytes / granularity > 2 ** 27) granularity *= 2;
  return granularity;
}
