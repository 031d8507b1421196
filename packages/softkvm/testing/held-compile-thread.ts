/** A thread that compiles when the test says so. */

import { compileOrder } from "../src/compiler/compile-order.ts";
import type { CompiledRegion, CompileThread, RegionOrder } from "../src/compiler/compile-thread.ts";
import { FIELDS } from "../src/compiler/order.ts";

export class HeldCompileThread implements CompileThread {
  isReady = true;
  isWanted = false;
  /** How many orders came. */
  orders = 0;
  readonly #held: RegionOrder[] = [];
  readonly #answers: (CompiledRegion | "nothing")[] = [];

  want(): void {
    this.isWanted = true;
  }

  order(order: RegionOrder): void {
    this.orders += 1;
    // As it goes from thread to thread.
    this.#held.push(structuredClone(order));
  }

  take(): CompiledRegion | "nothing" | undefined {
    return this.#answers.shift();
  }

  get isHolding(): boolean {
    return this.#held.length > 0;
  }

  /** Compiles the first of what is held; `spoil` changes the order before. Returns the number of its blocks. */
  compile(spoil: (order: RegionOrder) => void = () => {}): number {
    const order = this.#held.shift();
    if (order === undefined) throw new Error("there is no order");
    spoil(order);
    this.#answers.push(compileOrder(order) ?? "nothing");
    return order.members.length / FIELDS;
  }
}
