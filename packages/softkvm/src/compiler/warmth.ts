/**
 * When a block that the interpreter runs again and again is compiled although the guest is hardly ever found there: what a
 * kernel does for a request to a disk is thousands of blocks, each of which runs once a request. Compiling one takes as long as
 * some thousands of its runs. Most of a boot is over by then; a guest that has done the same for long goes on with it. A
 * thread that compiles beside this one and has nothing else to do takes what has run some hundred times.
 */

import type { Block } from "../interpreter/block.ts";

/** Runs until the interpreter tells of a block for the first time. */
export const FIRST_RUNS = 500;
/** Runs that are enough of anything. */
export const ENOUGH_RUNS = 10_000;
/** A block is looked at after each of these numbers of runs. */
const STEPS = [FIRST_RUNS, 1500, 3000, 6000, ENOUGH_RUNS] as const;
const LAST = STEPS.length - 1;

/**
 * Where so many budgets have ended since the first step, a block that comes to a further one is not of a phase of the guest's
 * that is over soon. A boot of Linux takes some thousands.
 */
export const LONG_BUDGETS = 1000;

export class Warmth {
  /** Blocks that are no more drop out by themselves. */
  readonly #seen = new WeakMap<Block, { step: number; readonly since: number }>();

  /**
   * The interpreter has come to the block's next step. `budgets`: how many have ended. Returns how often it shall run until the
   * step after that; 0: it is warm. `isIdle`: compiling it now costs this thread little, and delays nothing warmer.
   */
  next(block: Block, budgets: number, isIdle = false): number {
    const seen = this.#seen.get(block) ?? { step: 0, since: budgets };
    this.#seen.set(block, seen);
    const isSteady = seen.step > 0 && budgets - seen.since >= LONG_BUDGETS;
    if (seen.step === LAST || isSteady || isIdle) {
      this.#seen.delete(block);
      return 0;
    }
    seen.step += 1;
    return STEPS[seen.step]! - STEPS[seen.step - 1]!;
  }
}
