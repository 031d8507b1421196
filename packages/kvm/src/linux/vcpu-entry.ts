/**
 * What other threads know of a vCPU: who runs it, what it holds of the process, and the gate for kicks, which nobody passes
 * once the vCPU is closed, because its run page is unmapped then.
 */

/** The entry's words. */
const FD = 0;
const TID = 1;
const SHUT = 2;
const INSIDE = 3;
/** Of two words. */
const RING = 4;
export const VCPU_WORDS = 6;

export class VcpuEntry {
  readonly #words: Int32Array;
  readonly #at: number;

  /** The entry whose first word is `words[at]`. */
  constructor(words: Int32Array, at: number) {
    this.#words = words;
    this.#at = at;
  }

  /** The vCPU `fd` of thread `tid` is there. */
  opened(fd: number, tid: number): void {
    Atomics.store(this.#words, this.#at + FD, fd);
    Atomics.store(this.#words, this.#at + TID, tid);
  }
  closed(): void {
    Atomics.store(this.#words, this.#at + TID, 0);
  }
  get isOpen(): boolean {
    return this.tid !== 0;
  }
  get fd(): number {
    return Atomics.load(this.#words, this.#at + FD);
  }
  get tid(): number {
    return Atomics.load(this.#words, this.#at + TID);
  }

  /** The address in this process of the dirty ring; 0 while none is mapped. */
  get ring(): number {
    const ring = this.#at + RING;
    return (Atomics.load(this.#words, ring) >>> 0) + (Atomics.load(this.#words, ring + 1) >>> 0) * 2 ** 32;
  }
  set ring(address: number) {
    Atomics.store(this.#words, this.#at + RING, address | 0);
    Atomics.store(this.#words, this.#at + RING + 1, Math.floor(address / 2 ** 32));
  }

  /** Lets a kicker in, who may touch the page until it {@link leave}s; false when the gate is shut. */
  enter(): boolean {
    Atomics.add(this.#words, this.#at + INSIDE, 1);
    if (Atomics.load(this.#words, this.#at + SHUT) === 0) return true;
    this.leave();
    return false;
  }
  leave(): void {
    if (Atomics.sub(this.#words, this.#at + INSIDE, 1) === 1) Atomics.notify(this.#words, this.#at + INSIDE);
  }
  /** Shuts the gate and waits for kickers that are inside. */
  shut(): void {
    Atomics.store(this.#words, this.#at + SHUT, 1);
    const word = this.#at + INSIDE;
    for (let inside = Atomics.load(this.#words, word); inside > 0; inside = Atomics.load(this.#words, word)) {
      Atomics.wait(this.#words, word, inside);
    }
  }
}
