/** A thread that compiles when the test says so. */

import { compileOrder } from "../src/compiler/compile-order.ts";
import type { CompiledRegion, CompileThread, RegionOrder } from "../src/compiler/compile-thread.ts";

export class HeldCompileThread implements CompileThread {
  isReady = true;
  isWanted = false;
  /** How many orders came. */
  orders = 0;
  #held: RegionOrder | undefined;
  #answer: CompiledRegion | "nothing" | undefined;

  want(): void {
    this.isWanted = true;
  }

  order(order: RegionOrder): void {
    if (this.#held !== undefined || this.#answer !== undefined)
      throw new Error("an order before the last was answered");
    this.orders += 1;
    // As it goes from thread to thread.
    this.#held = structuredClone(order);
  }

  take(): CompiledRegion | "nothing" | undefined {
    const answer = this.#answer;
    this.#answer = undefined;
    return answer;
  }

  get isHolding(): boolean {
    return this.#held !== undefined;
  }

  /** Compiles what is held; `spoil` changes the order before. */
  compile(spoil: (order: RegionOrder) => void = () => {}): void {
    if (this.#held === undefined) throw new Error("there is no order");
    spoil(this.#held);
    this.#answer = compileOrder(this.#held) ?? "nothing";
    this.#held = undefined;
  }
}
