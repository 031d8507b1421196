/** A machine that is not running yet: a signal gives up what was begun. */

import { constants } from "node:os";
import { keepCompiled } from "@lodge/machine/modules";
import { onSignals, signalStatus } from "./signals.ts";

/** A start's own functions have run by then. */
const SETTLED_MS = 1000;

/** Until a machine runs, a signal gives up what was begun, and is then obeyed. */
export function beginning(): Disposable & { readonly signal: AbortSignal } {
  const controller = new AbortController();
  const signals = onSignals((signal) => {
    controller.abort(new Interrupted(signal));
  });
  return {
    signal: controller.signal,
    [Symbol.dispose]: () => {
      signals[Symbol.dispose]();
      // The next start is quick also if this process is killed.
      setTimeout(keepCompiled, SETTLED_MS).unref();
    },
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
