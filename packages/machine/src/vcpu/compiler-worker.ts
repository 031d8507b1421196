/** What runs in the thread that compiles for a machine's vCPUs (compiler-thread.ts). */

import { workerData } from "node:worker_threads";
import { compileOrder, type RegionOrder } from "@lodge/softkvm/compiling";
import { type CompilerLink, LinkState, LinkWord } from "./compiler-link.ts";
import { garbageCollector } from "./garbage.ts";

/** Without orders for so long, the guests do what they have done before, and what their regions were made of is garbage. */
const QUIET_MS = 3000;
const WORTH_BYTES = 8 << 20;

const collect = garbageCollector(() => {}, WORTH_BYTES);
const quiet = setTimeout(collect, QUIET_MS).unref();

const { links }: { readonly links: readonly CompilerLink[] } = workerData;
for (const { port, words } of links) {
  const shared = new Int32Array(words);
  port.on("message", (order: RegionOrder) => {
    port.postMessage(compileOrder(order));
    Atomics.add(shared, LinkWord.answers, 1);
    Atomics.notify(shared, LinkWord.answers);
    quiet.refresh();
  });
  Atomics.store(shared, LinkWord.state, LinkState.READY);
  Atomics.notify(shared, LinkWord.state);
}
