/** Signals that end a program, while somebody else shall decide what they do. */

import { constants } from "node:os";

const ENDING = ["SIGINT", "SIGTERM", "SIGHUP", "SIGQUIT"] as const;

/** Calls back for each signal instead of ending the process. */
export function onSignals(callback: (signal: NodeJS.Signals) => void): Disposable {
  for (const signal of ENDING) process.on(signal, callback);
  return {
    [Symbol.dispose]: () => {
      for (const signal of ENDING) process.off(signal, callback);
    },
  };
}

/** The exit status of a program that a signal ended, as shells give it. */
export function signalStatus(signal: NodeJS.Signals): number {
  return 128 + constants.signals[signal];
}
