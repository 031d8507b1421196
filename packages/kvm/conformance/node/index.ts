/** The suite for other implementations, on Node. */

export type { Host } from "../case.ts";
export type { Port } from "../port.ts";
export { serve } from "../thread.ts";
export { assemble } from "./assembler.ts";
export { startWorker } from "./kvm-host.ts";
export { runSuite } from "./run-suite.ts";
