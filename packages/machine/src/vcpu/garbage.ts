/**
 * Memory that a vCPU's thread gives back when its guest is idle. The engine collects garbage by itself when an event loop has
 * nothing to do, and this thread never comes back to its own: what a boot has left behind would stay for the machine's life.
 */

import { getHeapStatistics, setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";

/** What has to have come since the last time: collecting takes some tenths of a second, in which the vCPU does not hear. */
const WORTH_BYTES = 48 << 20;

/** What to call when a vCPU has been idle for a while; `collected` is called after it was worth it. */
export function garbageCollector(collected: () => void): () => void {
  let after = 0;
  let collect: (() => void) | undefined;
  return () => {
    if (getHeapStatistics().total_heap_size - after < WORTH_BYTES) return;
    collect ??= engineCollector();
    collect();
    after = getHeapStatistics().total_heap_size;
    collected();
  };
}

/** The engine's own, which a context has that is made while it is switched on. It gives empty pages back, too. */
function engineCollector(): () => void {
  setFlagsFromString("--expose-gc");
  const gc = runInNewContext("gc") as (options: { type: string; execution: string; flavor: string }) => void;
  setFlagsFromString("--no-expose-gc");
  return () => gc({ type: "major", execution: "sync", flavor: "last-resort" });
}
