/** What the guest was found at when its budgets ended is, by nature, what runs most, and is compiled. */

import type { Compiler } from "../compiler/compiler.ts";
import { State } from "../cpu/layout.ts";
import type { CpuState } from "../cpu/state.ts";
import type { Block } from "../interpreter/block.ts";
import type { Blocks } from "../interpreter/blocks.ts";

export class Sampler {
  /** How many budgets have ended: the guest's own time, however busy the host is. */
  budgets = 0;
  readonly #state: CpuState;
  readonly #blocks: Blocks;
  readonly #compiler: Compiler;
  /** Where the guest was found last. */
  #last: Block | undefined;
  #low = 0;
  #high = 0;

  constructor(state: CpuState, blocks: Blocks, compiler: Compiler) {
    this.#state = state;
    this.#blocks = blocks;
    this.#compiler = compiler;
  }

  /** `found` tells of the block at RIP, by a walk through page tables. */
  sample(found: (tell: (block: Block) => void) => void): void {
    const low = this.#state.get32(State.rip);
    const high = this.#state.get32(State.rip + 4);
    const last = this.#last;
    // Mostly the guest is where it was the last time. If something else is there by now, the old block is sampled in vain.
    if (low === this.#low && high === this.#high && last?.mode === this.#state.get32(State.mode)) {
      if (this.#blocks.at(last.host, last.mode) === last) {
        this.#compiler.sample(last);
        return;
      }
    }
    found((block) => {
      this.#last = block;
      this.#low = low;
      this.#high = high;
      this.#compiler.sample(block);
    });
  }
}
