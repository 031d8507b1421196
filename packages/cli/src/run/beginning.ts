/** A machine that is not running yet: a signal gives up what was begun. */

import { constants } from "node:os";
import { onSignals, signalStatus } from "./signals.ts";

/** Until a machine runs, a signal gives up what was begun, and is then obeyed. */
export function beginning(): Disposable & { readonly signal: AbortSignal } {
  const controller = new AbortController();
  const signals = onSignals((signal) => {
    controller.abort(new Interrupted(signal));
  });
  return {
    signal: controller.signal,
    [Symbol.dispose]: () => signals[Symbol.dispose](),
  };
}

/** What a start is given up with when a signal comes. */
export class Interrupted extends Error {
  readonly status: number;

  constructor(signal: NodeJS.Signals) {
    super(`interrupted by ${signal} (${constants.signals[signal]})`);
    this.status = signalStatus(signal);
  }
}
