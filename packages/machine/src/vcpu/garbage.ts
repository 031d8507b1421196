/**
 * Memory that a thread gives back when it is idle. The engine collects garbage when an event loop has nothing to do, but a vCPU's
 * thread never comes back to its own, and of the one that compiles too little: what a boot has left behind would stay for the
 * machine's life.
 */

import { getHeapStatistics, setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";

/** For a vCPU's thread: collecting takes some tenths of a second, in which the vCPU does not hear. */
const WORTH_BYTES = 48 << 20;

/**
 * What to call when a thread has been idle for a while; `collected` is called after it was worth it. `worthBytes`: what has to
 * have come since the last time.
 */
export function garbageCollector(collected: () => void, worthBytes = WORTH_BYTES): () => void {
  let after = 0;
  let collect: (() => void) | undefined;
  return () => {
    if (getHeapStatistics().total_heap_size - after < worthBytes) return;
    collect ??= engineCollector();
    if (collect === undefined) return;
    collect();
    after = getHeapStatistics().total_heap_size;
    collected();
  };
}

type Collect = (options: { type: string; execution: string; flavor: string }) => void;

/**
 * The engine's own, which a context has that is made while it is switched on. It gives empty pages back, too. Undefined: another
 * thread, which did the same, has switched it off meanwhile.
 */
function engineCollector(): (() => void) | undefined {
  setFlagsFromString("--expose-gc");
  const gc = runInNewContext("globalThis.gc") as Collect | undefined;
  setFlagsFromString("--no-expose-gc");
  return gc && (() => gc({ type: "major", execution: "sync", flavor: "last-resort" }));
}
