/** A queue of bytes in shared memory, from one side to another: a vCPU's thread and the I/O thread. */

/** Words before the bytes: how many were ever put in and taken out, modulo 2^32. */
const PUT = 0;
const TAKEN = 1;
const HEADER_BYTES = 8;

export class ByteRing {
  /** How many bytes fit: a power of two. */
  readonly capacity: number;
  readonly #words: Int32Array;
  readonly #bytes: Uint8Array;

  /** `byteOffset` is a multiple of 4; {@link ByteRing.bytesFor} says how much room to leave. */
  constructor(buffer: SharedArrayBuffer, byteOffset: number, capacity: number) {
    this.capacity = capacity;
    this.#words = new Int32Array(buffer, byteOffset, 2);
    this.#bytes = new Uint8Array(buffer, byteOffset + HEADER_BYTES, capacity);
  }

  static bytesFor(capacity: number): number {
    return HEADER_BYTES + capacity;
  }

  get length(): number {
    return (Atomics.load(this.#words, PUT) - Atomics.load(this.#words, TAKEN)) >>> 0;
  }
  get room(): number {
    return this.capacity - this.length;
  }

  /** Adds what fits, and returns how much that was. Only one thread at a time may put. */
  put(bytes: Uint8Array): number {
    const count = Math.min(bytes.length, this.room);
    const start = Atomics.load(this.#words, PUT);
    for (let index = 0; index < count; index++) {
      this.#bytes[((start + index) >>> 0) & (this.capacity - 1)] = bytes[index]!;
    }
    Atomics.store(this.#words, PUT, (start + count) | 0);
    return count;
  }

  putByte(byte: number): boolean {
    if (this.room === 0) return false;
    const start = Atomics.load(this.#words, PUT);
    this.#bytes[start & (this.capacity - 1)] = byte;
    Atomics.store(this.#words, PUT, (start + 1) | 0);
    return true;
  }

  /** Takes all there is, or `limit` bytes. Only one thread at a time may take. */
  take(limit: number = this.capacity): Uint8Array {
    const count = Math.min(limit, this.length);
    const start = Atomics.load(this.#words, TAKEN);
    const bytes = new Uint8Array(count);
    for (let index = 0; index < count; index++) {
      bytes[index] = this.#bytes[((start + index) >>> 0) & (this.capacity - 1)]!;
    }
    Atomics.store(this.#words, TAKEN, (start + count) | 0);
    return bytes;
  }

  /** The oldest byte, taken; -1 for none. */
  takeByte(): number {
    if (this.length === 0) return -1;
    const start = Atomics.load(this.#words, TAKEN);
    const byte = this.#bytes[start & (this.capacity - 1)]!;
    Atomics.store(this.#words, TAKEN, (start + 1) | 0);
    return byte;
  }

  clear(): void {
    Atomics.store(this.#words, TAKEN, Atomics.load(this.#words, PUT));
  }
}
