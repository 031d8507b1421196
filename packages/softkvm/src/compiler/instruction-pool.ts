/**
 * Decoded instructions that are used again for each region: of all that compiling makes they take most memory, and while a
 * region is being written they would be what a collection of garbage has to copy, with the guest and whoever kicks it waiting.
 */

import { Instruction } from "../decode/instruction.ts";

/** What is kept: a region has no more (compiler.ts). Who takes more gets some of their own. */
const MOST = 800;

export class InstructionPool {
  readonly #all: Instruction[] = [];
  #taken = 0;

  /** What was taken before is nobody's any more. */
  reset(): void {
    this.#taken = 0;
  }

  /** To be filled by a decoder. */
  readonly take = (): Instruction => {
    const known = this.#all[this.#taken];
    if (known !== undefined) {
      this.#taken += 1;
      return known;
    }
    const made = new Instruction();
    if (this.#taken === MOST) return made;
    this.#all.push(made);
    this.#taken += 1;
    return made;
  };
}
