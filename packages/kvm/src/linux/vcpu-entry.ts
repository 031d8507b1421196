/**
 * What other threads know of a vCPU: who runs it, what it holds of the process, and the gate for kicks, which nobody passes
 * once the vCPU is closed, because its run page is unmapped then.
 */

/** The entry's words; addresses take two. */
const FD = 0;
const TID = 1;
const SHUT = 2;
const INSIDE = 3;
const PAGE = 4;
const RING = 6;
export const VCPU_WORDS = 8;

export class VcpuEntry {
  readonly buffer: SharedArrayBuffer;
  readonly byteOffset: number;
  readonly #words: Int32Array;

  constructor(buffer: SharedArrayBuffer, byteOffset: number) {
    this.buffer = buffer;
    this.byteOffset = byteOffset;
    this.#words = new Int32Array(buffer, byteOffset, VCPU_WORDS);
  }

  /** The vCPU `fd` of thread `tid` is there. */
  opened(fd: number, tid: number): void {
    Atomics.store(this.#words, FD, fd);
    Atomics.store(this.#words, TID, tid);
  }
  closed(): void {
    Atomics.store(this.#words, TID, 0);
  }
  get isOpen(): boolean {
    return this.tid !== 0;
  }
  get fd(): number {
    return Atomics.load(this.#words, FD);
  }
  get tid(): number {
    return Atomics.load(this.#words, TID);
  }

  /** Addresses in this process of the run page and of the dirty ring; 0 while they are not mapped. */
  get page(): number {
    return this.#address(PAGE);
  }
  set page(address: number) {
    this.#setAddress(PAGE, address);
  }
  get ring(): number {
    return this.#address(RING);
  }
  set ring(address: number) {
    this.#setAddress(RING, address);
  }

  /** Lets a kicker in, who may touch the page until it {@link leave}s; false when the gate is shut. */
  enter(): boolean {
    Atomics.add(this.#words, INSIDE, 1);
    if (Atomics.load(this.#words, SHUT) === 0) return true;
    this.leave();
    return false;
  }
  leave(): void {
    if (Atomics.sub(this.#words, INSIDE, 1) === 1) Atomics.notify(this.#words, INSIDE);
  }
  /** Shuts the gate and waits for kickers that are inside. */
  shut(): void {
    Atomics.store(this.#words, SHUT, 1);
    for (let inside = Atomics.load(this.#words, INSIDE); inside > 0; inside = Atomics.load(this.#words, INSIDE)) {
      Atomics.wait(this.#words, INSIDE, inside);
    }
  }

  #address(word: number): number {
    return (Atomics.load(this.#words, word) >>> 0) + (Atomics.load(this.#words, word + 1) >>> 0) * 2 ** 32;
  }
  #setAddress(word: number, address: number): void {
    Atomics.store(this.#words, word, address | 0);
    Atomics.store(this.#words, word + 1, Math.floor(address / 2 ** 32));
  }
}
