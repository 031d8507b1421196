/**
 * What is known of the register stack where code is being written, by what earlier instructions of a block have checked and
 * done: so that they need not be checked again.
 */

export class StackKnowledge {
  /** From the top on: whether a register is in use; undefined where that is not known. */
  #inUse: (boolean | undefined)[] = new Array(8).fill(undefined);
  /** No exception is pending. */
  settled = false;

  isFull(index: number): boolean {
    return this.#inUse[index & 7] === true;
  }
  isEmpty(index: number): boolean {
    return this.#inUse[index & 7] === false;
  }

  learn(index: number, inUse: boolean): void {
    this.#inUse[index & 7] = inUse;
  }

  /** The register with number `by` becomes the top. */
  turn(by: number): void {
    this.#inUse = this.#inUse.map((_, index) => this.#inUse[(index + by) & 7]);
  }

  forget(): void {
    this.#inUse.fill(undefined);
    this.settled = false;
  }
}
