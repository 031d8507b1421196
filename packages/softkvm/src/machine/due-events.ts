/** What may come between two instructions: exceptions that wait, interrupts, NMIs, and what holds them off. */

import type { ExitReason } from "@lodge/kvm";
import { State } from "../cpu/layout.ts";
import { Flag } from "../cpu/state.ts";
import { deliverInterrupt, deliverNmi, deliverPending } from "../system/exceptions.ts";
import type { Processor } from "../system/processor.ts";
import type { Surroundings } from "./surroundings.ts";

export class DueEvents {
  readonly #processor: Processor;
  readonly #outside: Surroundings;

  constructor(processor: Processor, outside: Surroundings) {
    this.#processor = processor;
    this.#outside = outside;
  }

  /** Whether STI or a load of SS holds events off from the instruction at RIP. */
  get isShadowed(): boolean {
    const { state } = this.#processor;
    if (state.get32(State.interruptShadow) === 0) return false;
    const isHere = state.get32(State.shadowRip) === state.get32(State.rip);
    if (isHere && state.get32(State.shadowRip + 4) === state.get32(State.rip + 4)) return true;
    state.set32(State.interruptShadow, 0);
    return false;
  }

  /** Whether a maskable interrupt would be taken before the next instruction. */
  get isInterruptible(): boolean {
    return (this.#processor.state.get32(State.flagRest) & Flag.IF) !== 0 && !this.isShadowed;
  }

  /** Whether something waits for the guest to be interruptible. */
  get wait(): boolean {
    const outside = this.#outside;
    return outside.hasInterrupt() || outside.wantsInterruptWindow || this.#processor.events.nmisPending > 0;
  }

  /**
   * Delivers what is due, most urgent first (Intel SDM vol. 3, 6.9), by `deliver`, which has what `act` does done and returns
   * the exit that it ended in.
   */
  deliver(deliver: (act: () => boolean) => ExitReason | undefined): ExitReason | undefined {
    const processor = this.#processor;
    const outside = this.#outside;
    const { events } = processor;
    processor.state.copy64(State.instructionRip, State.rip);
    if (events.exception !== undefined) return deliver(() => deliverPending(processor));
    // Taken from its controller already: nothing stands in its way.
    if (events.interrupt >= 0 && !events.interruptSoft) {
      return deliver(() => deliverInterrupt(processor, events.interrupt));
    }
    events.nmisPending = Math.min(2, events.nmisPending + outside.takeNmis());
    if (events.nmiInjected || (events.nmisPending > 0 && !events.nmiMasked && !this.isShadowed)) {
      if (!events.nmiInjected) events.nmisPending--;
      return deliver(() => deliverNmi(processor));
    }
    if (this.isInterruptible && outside.hasInterrupt()) {
      const vector = outside.acknowledgeInterrupt();
      if (vector >= 0) return deliver(() => deliverInterrupt(processor, vector));
    }
    return undefined;
  }
}
