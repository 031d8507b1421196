/** Where the thread of a vCPU begins: each thread has to be told for itself to keep what Node compiles. */

import { enableCompileCache } from "node:module";
import { workerData } from "node:worker_threads";
import type { ThreadSetup } from "./protocol.ts";

const { compileCache }: ThreadSetup = workerData;
if (compileCache !== undefined) enableCompileCache(compileCache);
await import("./worker.ts");
